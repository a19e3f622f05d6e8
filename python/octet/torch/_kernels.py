# SPDX-License-Identifier: Apache-2.0
"""The FP8 multiply over torch tensors: layouts, addresses, and the threads of this process."""
from __future__ import annotations

import ctypes
import os
import threading
import weakref
from typing import Callable, Optional

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from octet._octet import Fp8Runtime, Fp8WeightScale, clear, count_nan

# How the extension numbers the dtypes of dense operands.
DTYPE_NUMBERS = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}
HALF_DTYPES = (torch.float16, torch.bfloat16)
WEIGHT_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_SCALES = {"tensor": Fp8WeightScale.TENSOR, "channel": Fp8WeightScale.CHANNEL}
_PANEL_ROWS = 64
_LANE_COLUMNS = 4
_MAX_THREADS = 1024

_get_num_threads = torch.get_num_threads

_runtime: Optional[Fp8Runtime] = None
_runtime_threads = 0
_of_parents: list = []  # runtimes whose threads a fork left behind: ending them would wait for ever

lock = threading.RLock()  # of materialization and of the tables below


def served(device: torch.device) -> bool:
    """Whether this build multiplies FP8 on the device."""
    return device.type == "cpu"


def _openmp_parallel() -> int:
    """The address of what torch's own loops run through, or 0 where it has no OpenMP. On the same threads as torch's
    operations Octet's are awake when a multiply comes right after one of those, and neither waits for the other's to
    stop spinning."""
    if not torch.backends.openmp.is_available():
        return 0
    try:
        found = ctypes.CDLL(torch._C.__file__).GOMP_parallel  # looked up in the libraries that torch has loaded
    except (OSError, AttributeError):
        return 0
    return ctypes.cast(found, ctypes.c_void_p).value or 0


_parallel = _openmp_parallel()
# What the extension looks at tensors with, of torch 2.10 and later.
_exchange = getattr(Tensor, "__dlpack_c_exchange_api__", None)


def _forget_runtime() -> None:
    global _runtime, _parallel, lock
    _parallel = 0  # OpenMP's threads are not there any more either, which it does not know
    lock = threading.RLock()  # the old one may have been another thread's, which is no more
    if _runtime is not None:
        _of_parents.append(_runtime)
        _runtime = None


os.register_at_fork(after_in_child=_forget_runtime)


def runtime() -> Fp8Runtime:
    """The process's threads and scratch, as many threads as torch uses now."""
    global _runtime, _runtime_threads
    threads = _get_num_threads()
    current = _runtime
    if current is None or threads != _runtime_threads:
        with lock:
            current = _runtime = Fp8Runtime(max(1, min(threads, _MAX_THREADS)), _parallel, _exchange)
            _runtime_threads = threads
    return current


def packed_shape(rows: int, cols: int) -> tuple[int, int, int, int]:
    """The shape of codes on the CPU: panels of 64 rows, in them four columns of each row after the other."""
    return (-(-rows // _PANEL_ROWS), -(-cols // _LANE_COLUMNS), _PANEL_ROWS, _LANE_COLUMNS)


def cleared(shape: tuple[int, ...]) -> Tensor:
    """Zero codes, uint8 on the CPU, where a multiply reads them fastest."""
    codes = torch.empty(shape, dtype=torch.uint8, device="cpu")
    if codes.numel():
        clear(codes.data_ptr(), codes.numel())
    return codes


def nan_codes(plain: Tensor) -> int:
    """How many codes of a weight that was read from somewhere are NaN: the multiply takes none."""
    plain = plain.contiguous()
    return count_nan(plain.data_ptr(), plain.numel())


def quantize(source: Tensor, weight_scale: str) -> tuple[Tensor, Tensor]:
    """FP8 codes and scales of a weight.

    Args:
        source: [N, K] on the CPU, float16 to float64; rounded to bfloat16 first.
        weight_scale: "tensor" or "channel".

    Returns:
        codes, uint8 in the layout of the kernels (see `packed_shape`), and scales, float32 [1] or [N].

    Raises:
        ValueError: when a value is NaN or infinite.
    """
    rows, cols = source.shape
    with torch.inference_mode(False), torch.no_grad():
        source = source.detach()
        if source.dtype == torch.float64:
            source = source.to(torch.bfloat16)
        if source.stride(1) != 1 and cols > 1:
            source = source.contiguous()
        codes = cleared(packed_shape(rows, cols))
        scales = torch.zeros(rows, dtype=torch.float32, device="cpu")
        runtime().quantize(source.data_ptr(), DTYPE_NUMBERS[source.dtype], source.stride(0), rows, cols,
                           _SCALES[weight_scale], codes.data_ptr(), scales.data_ptr())
        return codes, scales[:1].clone() if weight_scale == "tensor" else scales


def check_codes(codes: Tensor, scale: Tensor, rows: int, cols: int) -> None:
    """Refuses an FP8 weight of another shape than [rows, cols]: the multiply reads it by address."""
    if codes.dtype != torch.uint8 or tuple(codes.shape) != packed_shape(rows, cols) or not codes.is_contiguous():
        raise ValueError(f"expected codes uint8 {packed_shape(rows, cols)} of a weight [{rows}, {cols}], found "
                         f"{codes.dtype} {tuple(codes.shape)}")
    if scale.dtype != torch.float32 or scale.numel() not in (1, rows) or not scale.is_contiguous():
        raise ValueError(f"expected one float32 scale or {rows}, found {scale.dtype} {tuple(scale.shape)}")


def unpack(codes: Tensor, rows: int, cols: int) -> Tensor:
    """Codes of the kernels' layout as uint8 [N, K]; those of another device are so already."""
    if codes.dim() == 2:
        return codes
    plain = torch.empty((rows, cols), dtype=torch.uint8, device="cpu")
    runtime().unpack(codes.data_ptr(), rows, cols, plain.data_ptr())
    return plain


def pack(plain: Tensor) -> Tensor:
    """uint8 [N, K] on the CPU in the layout of the kernels."""
    plain = plain.contiguous()
    rows, cols = plain.shape
    codes = cleared(packed_shape(rows, cols))
    runtime().pack(plain.data_ptr(), rows, cols, codes.data_ptr())
    return codes


def dequantize(codes: Tensor, scale: Tensor, rows: int, cols: int) -> Tensor:
    """The weight that the multiply sees, float32 [N, K]."""
    plain = unpack(codes, rows, cols).view(torch.float8_e4m3fn).to(torch.float32)
    return plain.mul_(scale if scale.numel() == 1 else scale.unsqueeze(1))


def multiply(x: Tensor, codes: Tensor, scale: Tensor, bias: Optional[Tensor], rows: int,
             out_dtype: torch.dtype) -> Tensor:
    """y = x w^T + bias: x [..., K] float16, bfloat16, or float32 and float64, which are rounded to bfloat16 first -> y
    [..., N]. No autograd."""
    # Written for few calls into torch: each takes a fair part of a microsecond.
    number = DTYPE_NUMBERS.get(x.dtype)
    if number is None:
        x, number = x.to(torch.bfloat16), DTYPE_NUMBERS[torch.bfloat16]
    shape = x.shape
    cols = stride = shape[-1]
    flat = len(shape) == 2
    if not x.is_contiguous():
        if flat and x.stride(1) == 1:
            stride = x.stride(0)
        else:
            x = x.contiguous()
    tokens = shape[0] if flat else x.numel() // cols
    if bias is None:
        bias_address, bias_number = 0, 0
    else:
        if bias.numel() != rows:
            raise ValueError(f"FP8Linear: expected a bias of out_features = {rows} elements, found {tuple(bias.shape)}")
        bias_number = DTYPE_NUMBERS.get(bias.dtype, -1)
        if bias_number < 0 or not bias.is_contiguous() or not bias.is_cpu:
            bias = bias.detach().to(device="cpu", dtype=torch.float32).contiguous()
            bias_number = 0
        bias_address = bias.data_ptr()
    y = x.new_empty(tokens, rows, dtype=out_dtype)  # on the CPU whatever the default device
    runtime().linear(x.data_ptr(), number, tokens, stride, codes.data_ptr(), scale.data_ptr(),
                     scale.numel() == 1, rows, cols, bias_address, bias_number, y.data_ptr(),
                     DTYPE_NUMBERS[out_dtype])
    return y if flat else y.view(*shape[:-1], rows)


# What was made of a tensor, for as long as both live: weights that modules share have one FP8 form, and codes that
# modules share are moved to a device once.
_derived: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def version_of(tensor: Tensor) -> int:
    """The count of in-place changes; tensors made in inference mode have none."""
    return -1 if tensor.is_inference() else tensor._version


def shared(origin: Tensor, tag: object, make: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """What `make` made of `origin` under `tag` before, where it is still in use and `origin` unchanged."""
    with lock:
        entries = _derived.setdefault(origin, {})
        version = version_of(origin)
        if tag in entries:
            seen, references = entries[tag]
            tensors = tuple(reference() for reference in references)
            if seen == version and all(tensor is not None for tensor in tensors):
                return tensors
        made = make()
        entries[tag] = (version, tuple(weakref.ref(tensor) for tensor in made))
        return made


def forget(origin: Tensor, tag: object, made: Tensor) -> None:
    """Drops what `shared` remembers under `tag` if it is `made`."""
    with lock:
        entry = _derived.get(origin, {}).get(tag)
        if entry is not None and entry[1][0]() is made:
            del _derived[origin][tag]
