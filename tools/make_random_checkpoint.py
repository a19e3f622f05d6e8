#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes a checkpoint of random weights with the names and shapes of a known model.

    tools/make_random_checkpoint.py llama-3.2-1b /tmp/llama --layers 4
    tools/make_random_checkpoint.py llama-3.2-1b /tmp/llama --check

config.json and model.safetensors (or shards and an index) are written as a stream, a few MiB in
memory at a time; no tokenizer. Weights are about normal(0, 0.02), norms about 1; the same seed
gives a tensor the same bytes whatever the shard size or number of layers. Runs with the Python
standard library alone.
"""

import argparse
import itertools
import json
import math
import os
import random
import struct
import sys
import time
import zlib
from array import array
from dataclasses import dataclass
from pathlib import Path

from checkpoint_shapes import SHAPES, tensors_of

DTYPES = {"bfloat16": ("BF16", 2), "float16": ("F16", 2), "float32": ("F32", 4)}
UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
BLOCK_VALUES = 1 << 18
GAINS = [2.0 ** (i / 8 - 1) for i in range(16)]  # rows differ in size, so that their scales do
WRITE_PIECES = 1024  # rows per system call, the most that Linux takes


@dataclass(frozen=True)
class Tensor:
    name: str
    shape: list
    dtype: str  # a key of DTYPES

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * DTYPES[self.dtype][1]


def parse_size(text: str) -> int:
    number = text.rstrip("KMGiIBb")
    unit = text[len(number):].upper()
    if unit not in UNITS or not number.replace(".", "", 1).isdigit() or float(number) * UNITS[unit] < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write for example 500MB or 5GB")
    return int(float(number) * UNITS[unit])


def encode(values, dtype: str) -> memoryview:
    floats = array("f", values)
    if sys.byteorder == "big":
        floats.byteswap()
    if dtype == "float16":
        return memoryview(struct.pack(f"<{len(floats)}e", *values))
    raw = floats.tobytes()
    if dtype == "float32":
        return memoryview(raw)
    upper = bytearray(len(raw) // 2)  # bfloat16: the upper half of each float32
    upper[0::2], upper[1::2] = raw[2::4], raw[3::4]
    return memoryview(upper)


class Values:
    """Blocks of random values from which every row takes a piece, at a place and with a gain of its own."""

    def __init__(self, seed: int):
        self._seed = seed
        generator = random.Random(seed)
        self._normal = [max(-4.0, min(4.0, generator.gauss(0, 1))) for _ in range(BLOCK_VALUES)]
        self._blocks = {}

    def blocks(self, tensor: Tensor) -> list:
        one = len(tensor.shape) == 1
        norm = one and tensor.name.endswith("norm.weight")
        key = (tensor.dtype, norm, one)
        if key not in self._blocks:
            gains = [0.1] if norm else [0.02] if one else [0.02 * gain for gain in GAINS]
            start = 1.0 if norm else 0.0
            self._blocks[key] = [encode([start + gain * v for v in self._normal], tensor.dtype) for gain in gains]
        return self._blocks[key]

    def rows(self, tensor: Tensor):
        """The bytes of each row. Rows longer than a block are made of several pieces."""
        blocks, width = self.blocks(tensor), DTYPES[tensor.dtype][1]
        state = zlib.crc32(f"{self._seed}/{tensor.name}".encode())
        for _ in range(math.prod(tensor.shape[:-1])):
            left = tensor.shape[-1]
            while left > 0:
                count = min(left, BLOCK_VALUES // 2)
                state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
                start = (state >> 8) % (BLOCK_VALUES - count) * width
                yield blocks[(state >> 4) % len(blocks)][start:start + count * width]
                left -= count


def plan_shards(tensors: list, limit: int) -> list:
    """Lists of tensors, each of at most `limit` bytes unless one tensor alone is larger."""
    shards, size = [[]], 0
    for tensor in tensors:
        if shards[-1] and size + tensor.bytes > limit:
            shards.append([])
            size = 0
        shards[-1].append(tensor)
        size += tensor.bytes
    return shards


def header_of(tensors: list) -> bytes:
    entries, offset = {"__metadata__": {"format": "pt"}}, 0
    for tensor in tensors:
        entries[tensor.name] = {"dtype": DTYPES[tensor.dtype][0], "shape": tensor.shape,
                                "data_offsets": [offset, offset + tensor.bytes]}
        offset += tensor.bytes
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def write_shard(path: Path, tensors: list, values: Values) -> None:
    with path.open("wb", buffering=0) as file:
        write_pieces(file, [header_of(tensors)])
        for tensor in tensors:
            rows = values.rows(tensor)
            while pieces := list(itertools.islice(rows, WRITE_PIECES)):
                write_pieces(file, pieces)


def write_pieces(file, pieces: list) -> None:
    """Gathers the pieces into one write, without copying them first."""
    written, total = os.writev(file.fileno(), pieces), sum(map(len, pieces))
    if written < total:
        rest = memoryview(b"".join(pieces))[written:]
        while rest:
            rest = rest[file.write(rest):]


def shard_names(count: int) -> list:
    return ["model.safetensors"] if count == 1 else [f"model-{i:05}-of-{count:05}.safetensors"
                                                     for i in range(1, count + 1)]


def write_checkpoint(config: dict, out: Path, tensors: list, seed: int, limit: int) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for old in [*out.glob("model*.safetensors"), *out.glob("model.safetensors.index.json")]:
        old.unlink()
    shards = plan_shards(tensors, limit)
    names = shard_names(len(shards))
    values = Values(seed)
    for name, shard in zip(names, shards):
        write_shard(out / name, shard, values)
    if len(shards) > 1:
        index = {"metadata": {"total_size": sum(tensor.bytes for tensor in tensors)},
                 "weight_map": {tensor.name: name for name, shard in zip(names, shards) for tensor in shard}}
        (out / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    (out / "config.json").write_text(json.dumps(dict(sorted(config.items())), indent=2) + "\n", encoding="utf-8")


def check_shard(path: Path, expected: dict) -> int:
    """Reads the header, compares it with what the config asks for, adds the bytes up. Returns the data bytes."""
    with path.open("rb") as file:
        length, = struct.unpack("<Q", file.read(8))
        if length > path.stat().st_size - 8:
            raise ValueError(f"{path}: the header claims {length} bytes, more than the file has")
        header = json.loads(file.read(length))
    end = 0
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        tensor = expected.pop(name, None)
        if tensor is None or entry["shape"] != tensor.shape or entry["dtype"] != DTYPES[tensor.dtype][0]:
            raise ValueError(f"{path}: tensor {name}: found {entry}, expected {tensor}")
        if entry["data_offsets"] != [end, end + tensor.bytes]:
            raise ValueError(f"{path}: tensor {name}: offsets {entry['data_offsets']} do not begin at {end}")
        end += tensor.bytes
    if path.stat().st_size != 8 + length + end:
        raise ValueError(f"{path}: {path.stat().st_size} bytes, the header adds up to {8 + length + end}")
    return end


def check_checkpoint(out: Path, tensors: list) -> int:
    expected = {tensor.name: tensor for tensor in tensors}
    index = out / "model.safetensors.index.json"
    names = ["model.safetensors"]
    if index.exists():
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    total = sum(check_shard(out / name, expected) for name in names)
    if expected:
        raise ValueError(f"{out}: {len(expected)} tensors are missing, the first is {next(iter(expected))}")
    if index.exists() and json.loads(index.read_text(encoding="utf-8"))["metadata"]["total_size"] != total:
        raise ValueError(f"{index}: total_size is not the {total} bytes of the shards")
    return total


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", metavar="MODEL_SHAPE", help=f"one of {', '.join(SHAPES)}; or a config.json")
    parser.add_argument("out", metavar="OUT", type=Path, help="folder to write")
    parser.add_argument("--layers", type=int, help="fewer (or more) layers than the model has")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shard-size", type=parse_size, default="5GB", help="largest shard (default: %(default)s)")
    parser.add_argument("--dtype", choices=DTYPES, help="default: that of the config, bfloat16 for the known shapes")
    parser.add_argument("--check", action="store_true", help="write nothing: check the headers and sizes in OUT")
    parser.add_argument("--count", action="store_true", help="write nothing: print parameters and bytes")
    args = parser.parse_args()
    if args.layers is not None and args.layers < 1:
        parser.error("--layers: at least 1")
    if args.shape not in SHAPES and not args.shape.endswith(".json"):
        parser.error(f"MODEL_SHAPE: unknown {args.shape!r}; known: {', '.join(SHAPES)}; or the path of a config.json")
    return args


def chosen_config(args: argparse.Namespace) -> dict:
    config = dict(SHAPES[args.shape] if args.shape in SHAPES else json.loads(Path(args.shape).read_text("utf-8")))
    dtype_key = "torch_dtype" if "torch_dtype" in config else "dtype"
    config[dtype_key] = args.dtype or config.get(dtype_key, "bfloat16")
    if args.layers is not None:
        config["num_hidden_layers"] = args.layers
    return config


def main() -> int:
    args = parse_arguments()
    config = chosen_config(args)
    dtype = config.get("torch_dtype", config.get("dtype"))
    tensors = [Tensor(name, shape, "float32" if name.endswith("e_score_correction_bias") else dtype)
               for name, shape in tensors_of(config)]
    parameters = sum(math.prod(tensor.shape) for tensor in tensors)
    if args.count:
        print(f"{len(tensors)} tensors, {parameters} parameters, {sum(tensor.bytes for tensor in tensors)} bytes")
        return 0
    if args.check:
        print(f"{args.out}: {check_checkpoint(args.out, tensors)} bytes in {len(tensors)} tensors, as the config asks")
        return 0
    start = time.monotonic()
    write_checkpoint(config, args.out, tensors, args.seed, args.shard_size)
    seconds = time.monotonic() - start
    total = check_checkpoint(args.out, tensors)
    print(f"{args.out}: {parameters} parameters, {total} bytes, {seconds:.1f} s, {total / seconds / 1e6:.0f} MB/s")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (OSError, ValueError) as error:
        sys.exit(f"make_random_checkpoint: {error}")
