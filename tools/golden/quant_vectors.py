# SPDX-License-Identifier: Apache-2.0
"""Quantization vectors: what each numerics profile makes of small matrices, codes and scales to the bit.

Profile `compressed-tensors` is computed by that package itself on the CPU (E4M3; the package knows no
E5M2, so there the same steps are written out below and held to the package on E4M3). Profile `vllm` is
float32 arithmetic written out in PyTorch and held to a second writing in numpy and ml_dtypes.
"""

from dataclasses import dataclass
from math import ceil
from pathlib import Path

import numpy as np
import torch

from .files import fresh_folder, write_rows, write_tensors
from .float_vectors import E4M3, FP8_FORMATS, Fp8Format, bits_of, decode_fp8, encode_fp8, ties

SEED = 448
DTYPES = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}
SHAPES = {"weights": [(5, 96), (17, 130)], "activations": [(3, 96), (9, 256)]}
BLOCK = 128


@dataclass(frozen=True)
class Granularity:
    """Which elements share a scale: blocks of rows x columns, 0 meaning all of them."""
    name: str
    rows: int
    columns: int
    inputs: str


GRANULARITIES = (
    Granularity("per_tensor", 0, 0, "weights"),
    Granularity("per_channel", 1, 0, "weights"),
    Granularity("per_block", BLOCK, BLOCK, "weights"),
    Granularity("per_token", 1, 0, "activations"),
    Granularity("per_token_group", 1, BLOCK, "activations"),
)


def blocks_of(x: torch.Tensor, g: Granularity) -> torch.Tensor:
    """[R, C] -> [row blocks, column blocks, rows, columns], zeros past the edges."""
    rows, columns = g.rows or x.shape[0], g.columns or x.shape[1]
    down, across = ceil(x.shape[0] / rows), ceil(x.shape[1] / columns)
    padded = torch.nn.functional.pad(x, (0, across * columns - x.shape[1], 0, down * rows - x.shape[0]))
    return padded.reshape(down, rows, across, columns).transpose(1, 2)


def matrix_of(blocks: torch.Tensor, shape: tuple) -> torch.Tensor:
    """The way back from blocks_of, without the padding."""
    down, across, rows, columns = blocks.shape
    return blocks.transpose(1, 2).reshape(down * rows, across * columns)[:shape[0], :shape[1]]


def vllm(x: torch.Tensor, g: Granularity, fmt: Fp8Format) -> tuple[torch.Tensor, torch.Tensor]:
    """float32 throughout. Returns codes [R, C] uint8 and scales [row blocks, column blocks] float32."""
    blocks = blocks_of(x.to(torch.float32), g)
    amax = blocks.abs().amax(dim=(2, 3))
    if g.name == "per_block":
        amax = amax.clamp(min=1e-4)
    if g.name == "per_token_group":
        amax = amax.clamp(min=1e-10)
    scales = amax / fmt.max
    if g.name in ("per_channel", "per_token"):
        scales = scales.clamp(min=1.0 / (fmt.max * 512.0))
    wide = scales[:, :, None, None]
    quotient = blocks * (1.0 / wide) if g.name in ("per_tensor", "per_block") else blocks / wide
    # 0 * (1 / 0) is NaN, which the GPU's fmin and fmax turn into the largest value.
    quotient = torch.where(quotient.isnan(), torch.tensor(fmt.max), quotient)
    return matrix_of(encode_fp8(quotient, fmt), x.shape), scales


def vllm_again(x: torch.Tensor, g: Granularity, fmt: Fp8Format) -> tuple[np.ndarray, np.ndarray]:
    """The same rules once more: numpy, element loops over blocks, ml_dtypes for the cast."""
    wide = x.to(torch.float32).numpy()
    rows, columns = g.rows or wide.shape[0], g.columns or wide.shape[1]
    codes = np.zeros(wide.shape, np.uint8)
    scales = np.zeros((ceil(wide.shape[0] / rows), ceil(wide.shape[1] / columns)), np.float32)
    floors = {"per_block": np.float32(1e-4), "per_token_group": np.float32(1e-10)}
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for i, j in np.ndindex(*scales.shape):
            place = (slice(i * rows, (i + 1) * rows), slice(j * columns, (j + 1) * columns))
            amax = max(np.abs(wide[place]).max(), floors.get(g.name, np.float32(0)))
            scale = np.float32(amax) / np.float32(fmt.max)
            if g.name in ("per_channel", "per_token"):
                scale = max(scale, np.float32(1.0 / (fmt.max * 512)))
            if g.name in ("per_tensor", "per_block"):
                quotient = wide[place] * (np.float32(1) / scale)
            else:
                quotient = wide[place] / scale
            quotient = np.fmax(np.float32(-fmt.max), np.fmin(quotient, np.float32(fmt.max)))
            codes[place] = quotient.astype(fmt.numpy_dtype).view(np.uint8)
            scales[i, j] = scale
    return codes, scales


def eager(x: torch.Tensor, g: Granularity, fmt: Fp8Format) -> tuple[torch.Tensor, torch.Tensor]:
    """compressed-tensors' eager steps, every intermediate rounded to the dtype of x."""
    blocks = blocks_of(x, g)
    scales = blocks.abs().amax(dim=(2, 3)) / torch.tensor(fmt.max, dtype=x.dtype)
    scales = torch.where(scales == 0, torch.tensor(torch.finfo(x.dtype).eps, dtype=x.dtype), scales)
    quotient = (blocks / scales[:, :, None, None]).to(torch.float32)
    return matrix_of(encode_fp8(quotient, fmt), x.shape), scales.to(torch.float32)


def compressed_tensors(x: torch.Tensor, g: Granularity) -> tuple[torch.Tensor, torch.Tensor]:
    """The package's own functions, E4M3, without a zero point (so -0 stays -0)."""
    from compressed_tensors.quantization import QuantizationArgs
    from compressed_tensors.quantization.lifecycle.forward import quantize
    from compressed_tensors.quantization.utils import calculate_qparams, compute_dynamic_scales_and_zp

    shared = {"num_bits": 8, "type": "float", "symmetric": True}
    strategy = {"per_tensor": {"strategy": "tensor"}, "per_channel": {"strategy": "channel"},
                "per_block": {"strategy": "block", "block_structure": [BLOCK, BLOCK]},
                "per_token": {"strategy": "token", "dynamic": True},
                "per_token_group": {"strategy": "group", "group_size": BLOCK, "dynamic": True}}[g.name]
    args = QuantizationArgs(**shared, **strategy)
    value = x[None] if g.inputs == "activations" else x  # activations come as [batch, T, K]
    if args.dynamic:
        scales, _ = compute_dynamic_scales_and_zp(value, args, torch.nn.Module())
    else:
        blocks = blocks_of(x, g)
        scales, _ = calculate_qparams(blocks.amin(dim=(2, 3)), blocks.amax(dim=(2, 3)), args)
    fp8 = quantize(value, scales, None, args, dtype=torch.float8_e4m3fn)
    return fp8.view(torch.uint8).reshape(x.shape), scales.to(torch.float32).reshape(blocks_of(x, g).shape[:2])


def plain_rows(rows: int, columns: int) -> torch.Tensor:
    """Normal weights whose rows differ in size by powers of two and odd factors."""
    generator = torch.Generator().manual_seed(SEED + rows)
    x = torch.randn(rows, columns, generator=generator)
    return x * 0.02 * torch.rand(rows, 1, generator=generator).mul(6).sub(3).exp2()


def hard_rows(rows: int, columns: int, dtype: torch.dtype, fmt: Fp8Format) -> torch.Tensor:
    """Row i is of kind i mod 9: zeros, tiny, subnormal, huge, midpoints, -0, a single value, normal, near floors."""
    x = plain_rows(rows, columns)
    codes = torch.arange(256, dtype=torch.int32).to(torch.uint8)
    grid = decode_fp8(codes, fmt)
    middle = torch.from_numpy(ties(grid[grid.isfinite()].abs().numpy()))
    largest = torch.finfo(dtype).max
    subnormal = torch.finfo(dtype).smallest_normal / 8
    near = middle[torch.arange(columns) * 7 % len(middle)] * torch.where(torch.arange(columns) % 2 == 0, 1.0, -1.0)
    near[0] = fmt.max
    for i in range(rows):
        kind = i % 9
        if kind == 0:
            x[i] = 0
        elif kind == 1:
            x[i] = x[i] * (1e-30 if dtype != torch.float16 else 1e-5)
        elif kind == 2:
            x[i] = torch.where(x[i] > 0, subnormal, -subnormal / 2)
        elif kind == 3:
            x[i] = x[i] / x[i].abs().amax() * largest
        elif kind == 4:
            x[i] = near * 2.0**-9 if fmt is E4M3 else near * 2.0**-12
        elif kind == 5:
            x[i, ::3] = -0.0
        elif kind == 6:
            x[i] = 0
            x[i, -1] = -1.5
        elif kind == 8:
            x[i] = near * 1.7e-6
    return x


def shapes_for(g: Granularity, dtype: torch.dtype) -> list:
    """Blocks need a matrix of several, ragged both ways; the larger one is for one dtype only, to stay small."""
    large = [] if g.name != "per_block" else [(130, 257) if dtype == torch.bfloat16 else (130, 150)]
    return SHAPES[g.inputs] + large


def inputs_for(g: Granularity, dtype: torch.dtype, fmt: Fp8Format) -> dict[str, torch.Tensor]:
    """Named matrices. Where many elements share a scale, hard rows get matrices of their own."""
    cases = {}
    for rows, columns in shapes_for(g, dtype):
        cases[f"normal_{rows}x{columns}"] = plain_rows(rows, columns)
    if g.rows == 1:
        rows, columns = (18, 130) if g.inputs == "weights" else (18, 256)
        cases[f"hard_{fmt.name}_{rows}x{columns}"] = hard_rows(rows, columns, dtype, fmt)
    else:
        for kind in range(9):
            row = hard_rows(9, 67, dtype, fmt)[kind]
            cases[f"hard{kind}_{fmt.name}_3x67"] = torch.stack([row, row.flip(0), -row])
    return {name: x.clamp(-torch.finfo(dtype).max, torch.finfo(dtype).max).to(dtype) for name, x in cases.items()}


def same(name: str, codes, scales, other_codes, other_scales) -> None:
    if not np.array_equal(np.asarray(codes), np.asarray(other_codes)):
        raise AssertionError(f"{name}: two ways to compute the codes differ")
    if not np.array_equal(bits_of(np.asarray(scales)), bits_of(np.asarray(other_scales))):
        raise AssertionError(f"{name}: two ways to compute the scales differ")


def quantize(x: torch.Tensor, g: Granularity, fmt: Fp8Format, profile: str, name: str):
    if profile == "vllm":
        codes, scales = vllm(x, g, fmt)
        same(name, codes, scales, *vllm_again(x, g, fmt))
        return codes, scales, "two writings of the rule"
    codes, scales = eager(x, g, fmt)
    divisible = g.name != "per_token_group" or x.shape[1] % BLOCK == 0
    if fmt is E4M3 and divisible:
        same(name, codes, scales, *compressed_tensors(x, g))
        return codes, scales, "the package"
    return codes, scales, "the rule the package follows for E4M3"


def write_family(folder: Path, g: Granularity, fmt: Fp8Format, profile: str) -> tuple[list, dict]:
    """One file of codes and scales; returns its manifest rows and the inputs they name."""
    rows, tensors, inputs = [], {}, {}
    file = f"{profile}_{g.name}_{fmt.name}.safetensors"
    for dtype_name, dtype in DTYPES.items():
        for case, x in inputs_for(g, dtype, fmt).items():
            prefix = f"{dtype_name}.{case}"
            codes, scales, truth = quantize(x, g, fmt, profile, f"{file} {prefix}")
            tensors |= {f"{prefix}.codes": codes, f"{prefix}.scales": scales}
            inputs[prefix] = x
            rows.append({"file": file, "prefix": prefix, "input": prefix, "profile": profile, "granularity": g.name,
                         "block": [g.rows, g.columns], "format": fmt.name, "dtype": dtype_name,
                         "shape": list(x.shape), "scale_shape": list(scales.shape), "truth": truth})
    write_tensors(folder / file, tensors)
    return rows, inputs


def write_raw_casts(folder: Path, fmt: Fp8Format) -> tuple[list, dict]:
    """The raw cast: no scale, clamp to the largest finite value, cast to nearest even."""
    rows, tensors, inputs = [], {}, {}
    file = f"raw_cast_{fmt.name}.safetensors"
    for dtype_name, dtype in DTYPES.items():
        x = hard_rows(18, 130, dtype, fmt)
        x[4] *= 2.0**9 if fmt is E4M3 else 2.0**12  # midpoints as they are
        x[13, :5] = torch.tensor([fmt.max, -fmt.max, fmt.max * 1.03, -fmt.max * 1.07, fmt.max * 1.5])
        x = x.clamp(-torch.finfo(dtype).max, torch.finfo(dtype).max).to(dtype)
        x[13, 5:7] = torch.tensor([torch.inf, -torch.inf])
        name = f"{dtype_name}.raw_{fmt.name}_18x130"
        inputs[name] = x
        tensors[f"{name}.codes"] = encode_fp8(x.to(torch.float32), fmt)
        rows.append({"file": file, "prefix": name, "input": name, "profile": "any", "granularity": "raw_cast",
                     "block": None, "format": fmt.name, "dtype": dtype_name, "shape": list(x.shape),
                     "scale_shape": None, "truth": "PyTorch's cast after a clamp"})
    write_tensors(folder / file, tensors)
    return rows, inputs


def write_quant(root: Path) -> str:
    folder = fresh_folder(root / "quant")
    written = [write_raw_casts(folder, fmt) for fmt in FP8_FORMATS]
    for profile in ("vllm", "compressed-tensors"):
        written += [write_family(folder, g, fmt, profile) for g in GRANULARITIES for fmt in FP8_FORMATS]
    inputs = {}
    for _, named in written:
        for name, x in named.items():
            if name in inputs and not torch.equal(inputs[name], x):
                raise AssertionError(f"{name} names two inputs")
            inputs[name] = x
    write_tensors(folder / "inputs.safetensors", inputs)
    cases = [row for rows, _ in written for row in rows]
    write_rows(folder / "manifest.json", {"inputs": "inputs.safetensors"}, "cases", cases)
    size = sum(file.stat().st_size for file in folder.iterdir())
    return f"{len(cases)} cases, {size} bytes"
