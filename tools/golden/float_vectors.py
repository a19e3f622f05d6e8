# SPDX-License-Identifier: Apache-2.0
"""Conversion vectors of the number formats: all FP8 codes, every rounding tie and its neighbours.

The expected codes come from PyTorch's cast after an explicit clamp to the largest finite value, so
that overflow saturates whatever the PyTorch version does on its own; ml_dtypes must agree.
"""

from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np
import torch

from .files import fresh_folder, write_json, write_pairs

SEED = 8
SPECIALS = [0.0, -0.0, 448, 449, 463.9, 464, 464.01, 479.9, 480, 481, 1000, 57343, 57344, 57345, 61439, 61440, 61441,
            65504, 65519, 65520, 65521, 65535, 65536, 1e9, 3.3895314e38, 3.4028235e38, np.inf, 1.0, 1.0625, 1.1875,
            17, 19, 2.0**-10, 2.0**-10 * 1.0001, 2.0**-6, 2.0**-17, 2.0**-24, 2.0**-25, 2.0**-126, 1e-38, 1e-40, 1e-45]
NANS = [0x7FC00000, 0xFFC00000, 0x7F800001, 0xFF800001, 0x7FFFFFFF, 0xFFFFFFFF, 0x7FABCDEF, 0xFFABCDEF]


@dataclass(frozen=True)
class Fp8Format:
    name: str
    torch_dtype: torch.dtype
    numpy_dtype: type
    max: float


E4M3 = Fp8Format("e4m3", torch.float8_e4m3fn, ml_dtypes.float8_e4m3fn, 448.0)
E5M2 = Fp8Format("e5m2", torch.float8_e5m2, ml_dtypes.float8_e5m2, 57344.0)
FP8_FORMATS = (E4M3, E5M2)


def bits_of(values) -> np.ndarray:
    return np.asarray(values, np.float32).view(np.uint32)


def floats_of(bits) -> np.ndarray:
    return np.asarray(bits, np.uint32).view(np.float32)


def encode_fp8(x: torch.Tensor, fmt: Fp8Format) -> torch.Tensor:
    """float32 -> uint8 codes: clamp, then the cast to nearest even. NaN stays NaN with its sign."""
    return x.clamp(-fmt.max, fmt.max).to(fmt.torch_dtype).view(torch.uint8)


def decode_fp8(codes: torch.Tensor, fmt: Fp8Format) -> torch.Tensor:
    return codes.view(fmt.torch_dtype).to(torch.float32)


def with_neighbours(values: np.ndarray) -> np.ndarray:
    """Each value, the float32 just below and the one just above it, with both signs."""
    values = np.asarray(values, np.float32)
    with np.errstate(over="ignore"):  # past the largest float32 lies infinity, which is wanted
        below, above = np.nextafter(values, np.float32(-np.inf)), np.nextafter(values, np.float32(np.inf))
    around = np.concatenate([values, below, above])
    return np.concatenate([around, -around])


def ties(values: np.ndarray) -> np.ndarray:
    """Midpoints between neighbours of a sorted list of values (exact in float32 for formats this short)."""
    wide = np.unique(np.asarray(values, np.float64))
    middle = (wide[1:] + wide[:-1]) / 2
    if not np.array_equal(middle.astype(np.float32).astype(np.float64), middle):
        raise AssertionError("a midpoint is not a float32")
    return middle.astype(np.float32)


def random_floats(count: int) -> np.ndarray:
    """Random signs and mantissas, exponents spread over everything that is finite."""
    bits = np.random.default_rng(SEED).integers(0, 2**32, count, dtype=np.uint32)
    values = floats_of(bits)
    return values[np.isfinite(values)]


def fp8_inputs(fmt: Fp8Format) -> np.ndarray:
    decoded = decode_fp8(torch.arange(256, dtype=torch.int32).to(torch.uint8), fmt).numpy()
    finite = decoded[np.isfinite(decoded)]
    rng = np.random.default_rng(SEED)
    near = (rng.standard_normal(512) * 2.0 ** rng.integers(-18, 10, 512)).astype(np.float32)
    specials = with_neighbours(np.array(SPECIALS, np.float32))
    parts = [finite, with_neighbours(ties(np.abs(finite))), specials, near, random_floats(512)]
    numbers = np.unique(bits_of(np.concatenate(parts)))
    numbers = numbers[~np.isnan(floats_of(numbers))]
    return np.concatenate([numbers, np.array(NANS, np.uint32)])


def write_fp8(folder: Path, fmt: Fp8Format) -> list:
    codes = torch.arange(256, dtype=torch.int32).to(torch.uint8)
    decoded = decode_fp8(codes, fmt).numpy()
    other = codes.numpy().view(fmt.numpy_dtype).astype(np.float32)
    if not np.array_equal(decoded, other, equal_nan=True):
        raise AssertionError(f"{fmt.name}: PyTorch and ml_dtypes decode differently")
    # One NaN for all, since a NaN's payload is no part of the format.
    decoded = np.where(np.isnan(decoded), np.float32(np.nan), decoded)

    inputs = fp8_inputs(fmt)
    encoded = encode_fp8(torch.from_numpy(floats_of(inputs).copy()), fmt).numpy()
    finite = ~np.isnan(floats_of(inputs))
    clamped = np.clip(floats_of(inputs)[finite], -fmt.max, fmt.max)
    if not np.array_equal(encoded[finite], clamped.astype(fmt.numpy_dtype).view(np.uint8)):
        raise AssertionError(f"{fmt.name}: PyTorch and ml_dtypes encode differently")
    expected_nan = np.where(inputs[~finite] >> 31, 0xFF, 0x7F)
    if not np.array_equal(encoded[~finite], expected_nan):
        raise AssertionError(f"{fmt.name}: PyTorch's NaN is no longer 0x7F with the sign kept")

    decode_count = write_pairs(folder / f"{fmt.name}_decode.bin", codes.numpy(), bits_of(decoded))
    encode_count = write_pairs(folder / f"{fmt.name}_encode.bin", inputs, encoded)
    return [
        {"file": f"{fmt.name}_decode.bin", "record": ["uint32 code", "uint32 float32_bits"], "count": decode_count},
        {"file": f"{fmt.name}_encode.bin", "record": ["uint32 float32_bits", "uint32 code"], "count": encode_count},
    ]


def write_float8(root: Path) -> str:
    folder = fresh_folder(root / "float8")
    files = [row for fmt in FP8_FORMATS for row in write_fp8(folder, fmt)]
    write_json(folder / "manifest.json", {"files": files})
    return ", ".join(f"{row['file']}: {row['count']}" for row in files)


def sixteen_bit_inputs(torch_dtype: torch.dtype) -> np.ndarray:
    """Ties of every exponent and of random mantissas, both signs, plus specials and random numbers."""
    rng = np.random.default_rng(SEED)
    positive = torch.arange(0, 0x7F80 if torch_dtype == torch.bfloat16 else 0x7C00, dtype=torch.int32).to(torch.int16)
    table = positive.view(torch_dtype).to(torch.float32).numpy()
    picked = np.unique(np.concatenate([
        np.arange(64), rng.integers(0, len(table) - 1, 320), np.arange(0x3FE, 0x402), np.arange(0x7E, 0x82),
        np.arange(len(table) - 5, len(table) - 1)]))
    wide = table.astype(np.float64)
    middle = ((wide[picked] + wide[picked + 1]) / 2).astype(np.float32)
    step = wide[-1] - wide[-2]
    past = np.array([np.float32(wide[-1] + step / 2)])  # the tie with infinity
    parts = [with_neighbours(np.concatenate([middle, past, np.array(SPECIALS, np.float32)])), table[picked],
             -table[picked], random_floats(512)]
    numbers = np.unique(bits_of(np.concatenate(parts)))
    return numbers[~np.isnan(floats_of(numbers))]


def write_float16(root: Path) -> str:
    folder = fresh_folder(root / "float16")
    files = []
    for name, torch_dtype, numpy_dtype in (("bf16", torch.bfloat16, ml_dtypes.bfloat16),
                                           ("f16", torch.float16, np.float16)):
        inputs = sixteen_bit_inputs(torch_dtype)
        values = floats_of(inputs).copy()
        codes = torch.from_numpy(values).to(torch_dtype).view(torch.int16).numpy().view(np.uint16)
        with np.errstate(over="ignore"):
            other = values.astype(numpy_dtype).view(np.uint16)
        if not np.array_equal(codes, other):
            raise AssertionError(f"{name}: PyTorch and numpy round differently")
        count = write_pairs(folder / f"{name}_encode.bin", inputs, codes)
        files.append({"file": f"{name}_encode.bin", "record": ["uint32 float32_bits", "uint32 code"], "count": count})
        # PyTorch's NaN depends on the instruction set it runs on; the files ask for a quiet NaN of the same sign only.
        quiet = 0x7FC0 if name == "bf16" else 0x7E00
        nans = [quiet | (bits >> 16 & 0x8000) for bits in NANS]
        count = write_pairs(folder / f"{name}_encode_nan.bin", NANS, nans)
        files.append({"file": f"{name}_encode_nan.bin", "record": ["uint32 float32_bits", "uint32 code"],
                      "count": count, "expect": "any quiet NaN with the sign of the code"})
    every = torch.arange(65536, dtype=torch.int32)
    halves = every.to(torch.int16).view(torch.float16).to(torch.float32).numpy()
    code = every.numpy()
    keep = np.isfinite(halves) & ((code % 61 == 0) | (code % 1024 < 3) | (code % 1024 > 1021))
    count = write_pairs(folder / "f16_decode.bin", code[keep], bits_of(halves[keep]))
    files.append({"file": "f16_decode.bin", "record": ["uint32 code", "uint32 float32_bits"], "count": count})
    write_json(folder / "manifest.json", {"files": files})
    return ", ".join(f"{row['file']}: {row['count']}" for row in files)
