#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prints the table of docs/models.md: what models need, by `octet inspect` on their configurations alone.

    tools/model_table.py build/dev/bin/octet [--only opt-125m,devstral-24b]

No weight is needed: shapes come from tools/checkpoint_shapes.py and from below.
"""

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

from checkpoint_shapes import SHAPES


def ministral() -> dict:
    text = SHAPES["devstral-24b"] | {
        "model_type": "ministral3", "max_position_embeddings": 393216, "rope_parameters": {
            "rope_type": "yarn", "rope_theta": 1e8, "factor": 48.0, "original_max_position_embeddings": 8192, "beta_fast": 32.0,
            "beta_slow": 1.0, "mscale": 1.0, "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.1}}
    del text["rope_theta"], text["architectures"]
    return {"architectures": ["Mistral3ForConditionalGeneration"], "model_type": "mistral3", "text_config": text}


MODELS = {**{name: shape for name, shape in SHAPES.items() if not name.startswith("tiny")},
          "devstral-small-2-24b (text)": ministral()}


def plan(octet: Path, folder: str, *options: str) -> dict:
    command = [str(octet), "inspect", folder, "--load-format", "dummy", "--json", *options]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip().splitlines()[0])
    return json.loads(done.stdout)


def row(octet: Path, name: str, config: dict) -> str:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(json.dumps(config))
        plain = plan(octet, folder, "--quantization", "none")
        fp8 = plan(octet, folder)
        tables = plan(octet, folder, "--fp8-lm-head", "--fp8-embedding")
    gib = [f"{p['plan']['final_bytes'] / 2**30:.2f}" for p in (plain, fp8, tables)]
    beyond = (fp8["plan"]["peak_bytes"] - fp8["plan"]["final_bytes"]) / 2**20
    return (f"| {name} | {fp8['parameters'] / 1e9:.2f} | {gib[0]} | {gib[1]} | {gib[2]} | +{beyond:.0f} MiB "
            f"| {fp8['kv_cache_bytes_per_token']} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("octet", type=Path)
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    chosen = args.only.split(",") if args.only else list(MODELS)
    print("| model | parameters, 10^9 | 16 bit, GiB | FP8, GiB | and both tables, GiB | peak while loading | KV bytes per token |")
    print("|---|---|---|---|---|---|---|")
    for name in chosen:
        try:
            print(row(args.octet, name, MODELS[name]), flush=True)
        except RuntimeError as error:
            print(f"| {name} | not run: {error} |", flush=True)


if __name__ == "__main__":
    main()
