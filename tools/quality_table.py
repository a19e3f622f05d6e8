#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures what every way of storing a model costs in quality, and prints a Markdown table.

Runs `octet evaluate` once for each row, against the unquantized model, on text the model has not
seen. For the bundled model that is the last 5 % of its two training texts, cut as
tools/train_demo.py cuts them:

    tools/quality_table.py --octet build/release/bin/octet \\
        --held-out-of tinyshakespeare.txt --held-out-of frankenstein.txt

Needs nothing but Python's standard library. docs/quality.md shows the result.
"""

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

FORMATS = {"e4m3": "E4M3", "e5m2": "E5M2"}
SCALES = {
    "fp8_per_channel": "per row",
    "fp8_per_tensor": "per matrix",
    "fp8_per_block": "per 128x128 block",
    "raw": "none (raw cast)",
}
TABLES = ["--fp8-lm-head", "--fp8-embedding"]
HEADINGS = (
    "stored in FP8", "format", "scales", "weights", "lowest SQNR", "became zero", "perplexity", "ratio",
    "KL divergence", "same first choice",
)


@dataclass
class Row:
    """One line of the table: what it is called and the options that make it."""

    stored: str
    number_format: str = "-"
    scales: str = "-"
    options: list = field(default_factory=list)


def weight_options(number_format, scales):
    if scales == "raw":
        return ["--quantization", "fp8", "--fp8-format", number_format, "--raw-cast"]
    return ["--quantization", scales, "--fp8-format", number_format]


def weight_rows():
    """Linear layers, alone and with the tables, in every format and granularity; then the tables alone."""
    for stored, extra in (("linear layers", []), ("linear layers, head, embedding", TABLES)):
        for number_format, scales in itertools.product(FORMATS, SCALES):
            options = weight_options(number_format, scales) + extra
            yield Row(stored, FORMATS[number_format], SCALES[scales], options)
    for number_format, scales in itertools.product(FORMATS, ("fp8_per_channel", "raw")):
        options = ["--quantization", "none", "--fp8-format", number_format] + TABLES
        raw = ["--raw-cast"] if scales == "raw" else []
        yield Row("head, embedding", FORMATS[number_format], SCALES[scales], options + raw)


def other_rows():
    """Keys and values, activations and the other arithmetic, each alone and beside linear layers."""
    none = ["--quantization", "none"]
    for cache, name in (("fp8", "E4M3"), ("fp8_e5m2", "E5M2")):
        yield Row("keys and values", name, "per token and head", none + ["--kv-cache-dtype", cache])
    for scales in ("fp8_per_channel", "fp8_per_tensor", "fp8_per_block"):
        options = weight_options("e4m3", scales) + ["--activation-scheme", "dynamic"]
        yield Row("linear layers and their activations", "E4M3", SCALES[scales], options)
    for scales in ("fp8_per_channel", "fp8_per_tensor", "fp8_per_block"):
        options = weight_options("e4m3", scales) + ["--numerics", "compressed-tensors"]
        yield Row("linear layers, `--numerics compressed-tensors`", "E4M3", SCALES[scales], options)
    options = weight_options("e4m3", "fp8_per_channel") + TABLES + ["--kv-cache-dtype", "fp8"]
    yield Row("linear layers, head, embedding, keys and values", "E4M3", "per row", options)
    options = options + ["--activation-scheme", "dynamic"]
    yield Row("all of these and the activations", "E4M3", "per row", options)


def rows():
    yield Row("nothing", options=["--quantization", "none"])
    yield from weight_rows()
    yield from other_rows()


def held_out(path, share=0.05):
    """The last part of a text, from the first empty line after the cut: as tools/train_demo.py holds it out."""
    text = path.read_text(encoding="utf-8")
    blank = text.find("\n\n", int(len(text) * (1.0 - share)))
    if blank < 0:
        raise SystemExit(f"{path}: expected an empty line in its last {100 * share:g} %, found none")
    return text[blank + 2 :]


def measure(arguments, text, options, report):
    """(what `octet evaluate` says, its load report) of one run."""
    command = [str(arguments.octet), "evaluate", str(arguments.model), "--text", str(text), "--json", "--quiet"]
    command += ["--load-report", str(report)] + options + arguments.option
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr}")
    return json.loads(done.stdout), json.loads(report.read_text(encoding="utf-8"))


def worst(report):
    """Lowest SQNR and largest share of zeroed values over the groups of the load report, as text."""
    ratios = [group["sqnr_db"] for group in report["groups"] if group["sqnr_db"] is not None]
    zeros = [group["zero_fraction"] for group in report["groups"]]
    sqnr = f"{min(ratios):.1f} dB" if ratios else "-"
    return sqnr, f"{100 * max(zeros):.2f} %" if zeros else "-"


def cells(row, result, report):
    sqnr, zeros = worst(report)
    return (
        row.stored, row.number_format, row.scales, f"{report['final_bytes'] / 2**20:.3f} MiB", sqnr, zeros,
        f"{result['perplexity']:.3f}", f"{result['perplexity_ratio']:.5f}",
        f"{result['kl_divergence']:.6f}", f"{100 * result['top1_agreement']:.2f} %",
    )


def print_row(values):
    print("| " + " | ".join(values) + " |", flush=True)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = Path(__file__).resolve().parent.parent
    parser.add_argument("--octet", type=Path, required=True, help="the program")
    parser.add_argument("--model", type=Path, default=root / "models" / "demo", help="default: the bundled model")
    text = parser.add_mutually_exclusive_group(required=True)
    text.add_argument("--text", type=Path, help="read as a whole")
    text.add_argument("--held-out-of", type=Path, action="append", help="its last 5 %%; repeatable")
    parser.add_argument("--option", action="append", default=[], metavar="=--NAME=VALUE",
                        help="given to every run as well, as in --option=--threads=4")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory() as folder:
        text = arguments.text
        if text is None:
            text = Path(folder) / "held_out.txt"
            text.write_text("".join(held_out(path) for path in arguments.held_out_of), encoding="utf-8")
        print_row(HEADINGS)
        print_row(["---"] * 3 + ["---:"] * (len(HEADINGS) - 3))
        tokens = 0
        for row in rows():
            result, report = measure(arguments, text, row.options, Path(folder) / "report.json")
            tokens = result["tokens"]
            print_row(cells(row, result, report))
    print(f"{tokens} tokens predicted in each row", file=sys.stderr)


if __name__ == "__main__":
    main()
