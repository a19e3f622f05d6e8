#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Remakes the golden files in tests/golden/ from public packages.

    python tools/make_golden.py [--only float8,float16,quant,models,more_models,pickles] [--output tests/golden]

Needs torch, transformers, safetensors, ml_dtypes, numpy and compressed-tensors (the versions used
last are in tests/golden/versions.json). Fixed seeds and one thread: the same versions on the same
kind of machine give the same bytes. Formats of the files: tests/golden/README.md.
"""

import argparse
import importlib.metadata
import os
import sys
from pathlib import Path

PACKAGES = ("torch", "transformers", "safetensors", "ml_dtypes", "numpy", "compressed-tensors")
FAMILIES = ("float8", "float16", "quant", "models", "more_models", "pickles")


def write_family(family: str, root: Path) -> str:
    """Imports late, so that a family needs no packages but its own."""
    if family in ("float8", "float16"):
        from golden import float_vectors
        return (float_vectors.write_float8 if family == "float8" else float_vectors.write_float16)(root)
    if family == "quant":
        from golden import quant_vectors
        return quant_vectors.write_quant(root)
    if family == "pickles":
        from golden import pickles
        return pickles.write_pickles(root)
    from golden import models
    return models.write_models(root, family)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(FAMILIES), help="comma separated families (default: all)")
    default_output = Path(__file__).resolve().parent.parent / "tests" / "golden"
    parser.add_argument("--output", type=Path, default=default_output, help="folder to write (default: tests/golden)")
    args = parser.parse_args()
    chosen = args.only.split(",")
    unknown = sorted(set(chosen) - set(FAMILIES))
    if unknown:
        parser.error(f"--only: unknown {', '.join(unknown)}; known: {', '.join(FAMILIES)}")

    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import torch
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    args.output.mkdir(parents=True, exist_ok=True)
    for family in chosen:
        print(f"{family}: {write_family(family, args.output)}", flush=True)

    from golden.files import write_json
    write_json(args.output / "versions.json", {name: importlib.metadata.version(name) for name in PACKAGES})


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    main()
