# SPDX-License-Identifier: Apache-2.0
"""The multiply with gradients: an autograd function for eager mode, torch.library operations for compiled graphs."""
from __future__ import annotations

from typing import Optional

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from . import _kernels


def _input_gradient(grad: Tensor, codes: Tensor, scale: Tensor, cols: int, dtype: torch.dtype) -> Tensor:
    """grad [..., N] times the weight that the forward multiplied with: [..., K]."""
    weight = torch.ops.octet.fp8_dequantize(codes, scale, grad.shape[-1], cols)
    return (grad.to(torch.float32) @ weight).to(dtype)


def _weight_gradient(grad: Tensor, x: Tensor, dtype: torch.dtype) -> Tensor:
    rows, cols = grad.shape[-1], x.shape[-1]
    flat = grad.reshape(-1, rows).to(torch.float32)
    return (flat.t() @ x.reshape(-1, cols).to(torch.float32)).to(dtype)


def _bias_gradient(grad: Tensor, dtype: torch.dtype) -> Tensor:
    return grad.reshape(-1, grad.shape[-1]).to(torch.float32).sum(0).to(dtype)


def _requantize_if_changed(weight: Optional[Tensor], version: Optional[Tensor], codes: Tensor, scale: Tensor) -> None:
    """A compiled graph holds codes by address: a weight changed in place since is quantized again into them."""
    if weight is None or version is None or _kernels.version_of(weight) == version.item():
        return
    new_codes, new_scale = _kernels.quantize(weight, "tensor" if scale.numel() == 1 else "channel")
    codes.copy_(new_codes)
    scale.copy_(new_scale)
    version.fill_(_kernels.version_of(weight))


@torch.library.custom_op("octet::fp8_linear", mutates_args=(), device_types="cpu")
def fp8_linear(x: Tensor, codes: Tensor, scale: Tensor, bias: Optional[Tensor], weight: Optional[Tensor],
               version: Optional[Tensor], out_features: int, out_dtype: torch.dtype) -> Tensor:
    """y = x w^T + bias with x [..., K] in FP8; `weight` and `version` only where the source is kept."""
    if x.dtype not in _kernels.WEIGHT_DTYPES or out_dtype not in _kernels.DTYPE_NUMBERS:
        raise TypeError(f"octet::fp8_linear: takes float16 to float64 and gives float16, bfloat16 or float32, found "
                        f"{x.dtype} and {out_dtype}")
    if x.dim() == 0:
        raise ValueError("octet::fp8_linear: expected at least one dimension, found a scalar")
    _kernels.check_codes(codes, scale, out_features, x.shape[-1])
    _requantize_if_changed(weight, version, codes, scale)
    return _kernels.multiply(x, codes, scale, bias, out_features, out_dtype)


@fp8_linear.register_fake
def _(x, codes, scale, bias, weight, version, out_features, out_dtype):
    return x.new_empty((*x.shape[:-1], out_features), dtype=out_dtype)


@torch.library.custom_op("octet::fp8_dequantize", mutates_args=(), device_types="cpu")
def fp8_dequantize(codes: Tensor, scale: Tensor, rows: int, cols: int) -> Tensor:
    """The weight that the multiply sees, float32 [N, K]."""
    _kernels.check_codes(codes, scale, rows, cols)
    return _kernels.dequantize(codes, scale, rows, cols)


@fp8_dequantize.register_fake
def _(codes, scale, rows, cols):
    return scale.new_empty((rows, cols), dtype=torch.float32)


def _setup_context(ctx, inputs, output) -> None:
    x, codes, scale, bias, weight, _, _, _ = inputs
    ctx.save_for_backward(codes, scale, x if weight is not None and weight.requires_grad else None)
    ctx.cols, ctx.x_dtype = x.shape[-1], x.dtype
    ctx.bias_dtype = None if bias is None else bias.dtype
    ctx.weight_dtype = None if weight is None else weight.dtype


def _backward(ctx, grad):
    codes, scale, x = ctx.saved_tensors
    needs = ctx.needs_input_grad
    x_grad = _input_gradient(grad, codes, scale, ctx.cols, ctx.x_dtype) if needs[0] else None
    bias_grad = _bias_gradient(grad, ctx.bias_dtype) if needs[3] else None
    weight_grad = _weight_gradient(grad, x, ctx.weight_dtype) if needs[4] else None
    return x_grad, None, None, bias_grad, weight_grad, None, None, None


fp8_linear.register_autograd(_backward, setup_context=_setup_context)


class FP8LinearFunction(torch.autograd.Function):
    """The eager form of octet::fp8_linear where a gradient is asked for: straight through the rounding of x, exact in
    the FP8 weight."""

    @staticmethod
    def forward(ctx, x, codes, scale, bias, weight, out_features, out_dtype):
        ctx.codes, ctx.scale = codes, scale
        ctx.save_for_backward(x if weight is not None and weight.requires_grad else None)
        ctx.cols, ctx.x_dtype = x.shape[-1], x.dtype
        ctx.bias_dtype = None if bias is None else bias.dtype
        ctx.weight_dtype = None if weight is None else weight.dtype
        return _kernels.multiply(x.detach(), codes, scale, bias, out_features, out_dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        needs = ctx.needs_input_grad
        x_grad = _input_gradient(grad, ctx.codes, ctx.scale, ctx.cols, ctx.x_dtype) if needs[0] else None
        bias_grad = _bias_gradient(grad, ctx.bias_dtype) if needs[3] else None
        weight_grad = _weight_gradient(grad, x, ctx.weight_dtype) if needs[4] else None
        return x_grad, None, None, bias_grad, weight_grad, None, None
