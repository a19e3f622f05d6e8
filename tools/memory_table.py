#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures what loading takes against what was planned: the table of docs/memory.md.

    tools/memory_table.py --octet build/bin/octet llama-1b=/tmp/llama-1b --reports /tmp/reports
    tools/memory_table.py --octet build/bin/octet opt-125m devstral-24b:2 --reports /tmp/reports --ways row

A model is NAME=FOLDER, or SHAPE or SHAPE:LAYERS of make_random_checkpoint.py: that is written beside the reports, and
deleted once it is measured. For each model, way of storing, number of threads and state of the page cache one fresh
process loads it and writes a load report. A row shows the plan, the ledger and the operating system, in MiB; a row that breaks the
promise (plan within 1 %, peak at most 64 MiB above the final size) is marked, and the exit code is 1. Standard library
alone.
"""

import argparse
import contextlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

MIB = 1 << 20
MARGIN = 64 * MIB
WAYS = {"none": ("--quantization", "none"), "row": ("--quantization", "fp8_per_channel"),
        "matrix": ("--quantization", "fp8_per_tensor"), "block": ("--quantization", "fp8_per_block"),
        "raw": ("--raw-cast",), "row, head": ("--quantization", "fp8_per_channel", "--fp8-lm-head")}
TITLES = ("model", "scales", "threads", "cache", "planned final", "final", "planned peak", "peak (ledger)",
          "process growth", "above final", "seconds", "")


def drop_cache(folder: Path):
    for path in folder.glob("*.safetensors"):
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@contextlib.contextmanager
def checkpoint(model: str, place: Path):
    """(name, folder) of a model that is there, or is made for as long as it is needed."""
    if "=" in model:
        name, folder = model.split("=", 1)
        yield name, Path(folder)
        return
    shape, _, layers = model.partition(":")
    with tempfile.TemporaryDirectory(dir=place) as folder:
        script = Path(__file__).resolve().parent / "make_random_checkpoint.py"
        subprocess.run([sys.executable, script, shape, folder, *(("--layers", layers) if layers else ())], check=True,
                       stdout=subprocess.DEVNULL)
        yield f"{shape}, {layers} layer{'s' * (layers != '1')}" if layers else shape, Path(folder)


def load(octet: str, folder: Path, way: str, threads: int, report: Path) -> dict:
    subprocess.run([octet, "generate", folder, "--prompt-ids", "1,2,3", "-n", "1", "--max-model-len", "64", "--threads",
                    str(threads), "--load-report", report, "--quiet", *WAYS[way]], check=True, stdout=subprocess.DEVNULL)
    return json.loads(report.read_text(encoding="utf-8"))


def keeps_the_promise(report: dict, growth: int) -> bool:
    planned = abs(report["predicted_peak_bytes"] - report["peak_bytes"]) <= 0.01 * report["peak_bytes"]
    exact = report["predicted_final_bytes"] == report["final_bytes"]
    return planned and exact and max(growth, report["peak_bytes"]) <= report["final_bytes"] + MARGIN


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="NAME=FOLDER|SHAPE[:LAYERS]")
    parser.add_argument("--octet", required=True)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=["row", "matrix", "block", "raw"])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--cache", nargs="+", choices=("cold", "warm"), default=["cold", "warm"])
    parser.add_argument("--reports", type=Path, required=True, help="folder for the reports")
    args = parser.parse_args()
    args.reports.mkdir(parents=True, exist_ok=True)
    print("| " + " | ".join(TITLES) + " |\n|" + "---|" * len(TITLES), flush=True)
    broken = 0
    for model in args.models:
        with checkpoint(model, args.reports) as (name, folder):
            for way, threads, cache in itertools.product(args.ways, args.threads, args.cache):
                if cache == "cold":
                    drop_cache(folder)
                file = args.reports / f"{name}-{way}-{threads}-{cache}.json".replace(", ", "-").replace(" ", "-")
                report = load(args.octet, folder, way, threads, file)
                growth = report["process_peak_rss_bytes"] - report["process_rss_before_bytes"]
                kept = keeps_the_promise(report, growth)
                broken += 0 if kept else 1
                sizes = [report["predicted_final_bytes"], report["final_bytes"], report["predicted_peak_bytes"],
                         report["peak_bytes"], growth, max(growth, report["peak_bytes"]) - report["final_bytes"]]
                cells = [name, way, str(threads), cache, *(f"{size / MIB:.1f}" for size in sizes),
                         f"{report['seconds']:.1f}", "" if kept else "broken"]
                print("| " + " | ".join(cells) + " |", flush=True)
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
