# SPDX-License-Identifier: Apache-2.0
"""Writes golden files so that the same numbers always give the same bytes."""

import json
import shutil
from pathlib import Path

import numpy as np
from safetensors.torch import save_file


def fresh_folder(path: Path) -> Path:
    """An empty folder at `path`; what an earlier run left there is removed."""
    if path.exists():
        shutil.rmtree(path)
    path.mkdir(parents=True)
    return path


def write_json(path: Path, value) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def write_rows(path: Path, head: dict, name: str, rows: list) -> None:
    """A JSON object with the fields of `head` and a list `name` of one line per row."""
    fields = "".join(f" {json.dumps(key)}: {json.dumps(value)},\n" for key, value in head.items())
    lines = ",\n".join(f"  {json.dumps(row)}" for row in rows)
    path.write_text(f"{{\n{fields} {json.dumps(name)}: [\n{lines}\n ]\n}}\n", encoding="utf-8")


def write_pairs(path: Path, first, second) -> int:
    """Little-endian {uint32 first, uint32 second} records; returns how many."""
    pairs = np.stack([np.asarray(first, np.uint32), np.asarray(second, np.uint32)], axis=1)
    path.write_bytes(pairs.astype("<u4").tobytes())
    return len(pairs)


def write_tensors(path: Path, tensors: dict) -> None:
    """A safetensors file of contiguous copies (views may not share memory in one file)."""
    save_file({name: t.detach().clone().contiguous() for name, t in tensors.items()}, str(path))
    path.chmod(0o644)  # the library makes files that only their owner can read
