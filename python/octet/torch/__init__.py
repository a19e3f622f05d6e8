# SPDX-License-Identifier: Apache-2.0
"""FP8 multiplies for any PyTorch model: `enable_fp8_gemm` puts FP8 layers in the place of its linear layers.

    >>> import octet.torch
    >>> octet.torch.enable_fp8_gemm(model)
    >>> print(octet.torch.report(model))

Weights are quantized once (E4M3), activations per token on the fly. Works on the CPU, without CUDA and without linking
to libtorch: tensors are borrowed by address. On devices that this build does not serve (`served_devices`) the source
weights are used, where they are kept.
"""
from __future__ import annotations

try:
    import torch as _torch
except ImportError as error:
    raise ImportError("octet.torch needs PyTorch: pip install torch (octet itself does not)") from error

from . import _ops
from ._enable import enable_fp8_gemm
from ._experts import FP8Experts
from ._files import load_fp8, save_fp8
from ._linear import FP8Linear
from ._options import FP8GemmOptions
from ._report import Report, ReportEntry, report


def served_devices() -> tuple[str, ...]:
    """Types of devices on which this build multiplies FP8."""
    return ("cpu",)


__all__ = ["FP8Experts", "FP8GemmOptions", "FP8Linear", "Report", "ReportEntry", "enable_fp8_gemm", "load_fp8", "report",
           "save_fp8", "served_devices"]
