# SPDX-License-Identifier: Apache-2.0
"""A linear layer whose weight is FP8 and whose activations become FP8 on the fly."""
from __future__ import annotations

from typing import Any, Optional

import torch
import torch.autograd.forward_ad as forward_ad
import torch.nn.functional as F
from torch import Tensor, nn

from . import _kernels
from ._kernels import DTYPE_NUMBERS, HALF_DTYPES, runtime
from ._module import FP8Module, _cpu_copy, check_source
from ._ops import FP8LinearFunction
from ._options import FP8GemmOptions

_is_compiling = torch.compiler.is_compiling
_is_grad_enabled = torch.is_grad_enabled
_tracing_state = torch._C._get_tracing_state
_CPU = torch.device("cpu")


def why_not_wrapped(linear: nn.Linear) -> Optional[str]:
    """Why a linear's arithmetic is not that of nn.Linear, or None when it is."""
    if type(linear).forward is not nn.Linear.forward or "forward" in linear.__dict__:
        return "it has a forward of its own"
    if linear._parameters.get("weight") is None:
        return "its weight is computed, not a parameter"
    return None


def check_linear(linear: nn.Linear, what: str) -> None:
    """Refuses linears that have no FP8 form, before anything is changed."""
    check_source(linear.weight, what, 2)
    check_bias(linear.bias, linear.weight.shape[0], what)


def check_bias(bias: Optional[Tensor], out_features: int, what: str) -> None:
    if bias is None:
        return
    if bias.dtype not in _kernels.WEIGHT_DTYPES:
        raise TypeError(f"{what}: expected a bias in float16, bfloat16, float32 or float64, found {bias.dtype}")
    if tuple(bias.shape) != (out_features,):
        raise ValueError(f"{what}: expected a bias of out_features = {out_features} elements, found "
                         f"{tuple(bias.shape)}")


def check_input(x: Tensor, in_features: int, what: str) -> None:
    """Refuses what no linear layer takes, with one clear error."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{what}: expected a torch.Tensor, found {type(x).__name__}")
    if x.dtype not in _kernels.WEIGHT_DTYPES:
        raise TypeError(f"{what}: expected an input in float16, bfloat16, float32 or float64, found {x.dtype}")
    if x.layout != torch.strided:
        raise TypeError(f"{what}: expected a dense input, found layout {x.layout}")
    if x.dim() == 0 or x.shape[-1] != in_features:
        found = x.shape[-1] if x.dim() else "a scalar"
        raise ValueError(f"{what}: expected the last dimension of the input to be in_features = {in_features}, found "
                         f"{found} (input of shape {tuple(x.shape)})")


def needs_autograd(x: Tensor, bias: Optional[Tensor], weight: Optional[Tensor]) -> bool:
    """Whether a gradient can be asked for; a forward-mode tangent must not be dropped: the function refuses it."""
    if forward_ad._current_level >= 0:
        return True
    return _is_grad_enabled() and (x.requires_grad or (bias is not None and bias.requires_grad) or
                                   (weight is not None and weight.requires_grad))


def apply_fp8(x: Tensor, codes: Tensor, scale: Tensor, bias: Optional[Tensor], weight: Optional[Tensor],
              out_features: int, out_dtype: torch.dtype) -> Tensor:
    """The eager multiply, through autograd only where a gradient can be asked for."""
    if needs_autograd(x, bias, weight):
        return FP8LinearFunction.apply(x, codes, scale, bias, weight, out_features, out_dtype)
    return _kernels.multiply(x, codes, scale, bias, out_features, out_dtype)


class FP8Linear(FP8Module):
    """y = x W^T + b with W and x in FP8 (E4M3), in the place of an `nn.Linear`.

    Per row of x: s_a = max(amax / 448, 1 / (448 * 512)), codes by division. Products accumulate in float32,
    y = s_a * s_w * sum + b in float32, then one rounding to the output's dtype.

    Shapes: x [..., in_features] -> y [..., out_features]; any leading dimensions, zero rows included.

    Args:
        linear: the layer to wrap. With fp16_weight_storage="keep" it lives on as `.linear`; otherwise its bias lives on
            as `.bias`, and the linear itself is not changed.
        options: see :class:`FP8GemmOptions`.

    Attributes:
        weight_codes: the FP8 weight in the layout of the kernels, uint8, a non-persistent buffer; None before
            materialization.
        weight_scale: float32 [1] or [out_features], a non-persistent buffer.

    Raises:
        TypeError: when `linear` is no `nn.Linear`, does not multiply as one, or has a weight of another dtype.
        ValueError: when its weight is empty, on the meta device, or not finite.

    Gradients pass straight through the rounding of x and are exact in the FP8 weight; with "keep" the source weight
    gets its gradient, too.

    Example:
        >>> layer = FP8Linear(nn.Linear(4096, 4096, dtype=torch.bfloat16))
        >>> y = layer(torch.randn(2, 7, 4096, dtype=torch.bfloat16))    # [2, 7, 4096] bfloat16
    """

    _matrices = ("weight",)
    _kept_name = "linear"

    def __init__(self, linear: nn.Linear, *, options: FP8GemmOptions = FP8GemmOptions()) -> None:
        if not isinstance(linear, nn.Linear):
            raise TypeError(f"FP8Linear: expected an nn.Linear, found {type(linear).__name__}")
        if not isinstance(options, FP8GemmOptions):
            raise TypeError(f"FP8Linear: expected FP8GemmOptions, found {type(options).__name__}")
        if (reason := why_not_wrapped(linear)) is not None:
            raise TypeError(f"FP8Linear: {type(linear).__name__} cannot be wrapped: {reason}")
        check_linear(linear, "FP8Linear")
        super().__init__(linear, options)
        self.out_features, self.in_features = linear.weight.shape
        if options.fp16_weight_storage != "keep":
            self._parameters["bias"] = linear.bias
        self._take_sources(linear)

    @classmethod
    def from_linear(cls, linear: nn.Linear, *, options: FP8GemmOptions = FP8GemmOptions()) -> "FP8Linear":
        """The same as the constructor."""
        return cls(linear, options=options)

    @classmethod
    def _from_fp8(cls, codes: Tensor, scale: Tensor, like: nn.Module, options: FP8GemmOptions) -> "FP8Linear":
        """A discarded layer from row-major codes [N, K] that were saved, with the bias and hooks of `like`."""
        made = cls.__new__(cls)
        FP8Module.__init__(made, like, options)
        made.out_features, made.in_features = codes.shape
        made._parameters["bias"] = like.bias
        made._buffers["weight_codes"] = _kernels.pack(codes)
        made._buffers["weight_scale"] = scale
        made._sources = {"weight": None}
        return made

    @property
    def bias(self) -> Optional[nn.Parameter]:
        """[out_features] or None, in every storage."""
        linear = self._modules.get("linear")
        return linear.bias if linear is not None else self._parameters.get("bias")

    @property
    def weight(self) -> Tensor:
        """The source weight [out_features, in_features]: the linear's parameter with "keep", else the bfloat16 copy.
        After it was discarded a meta tensor of its shape and dtype, which answers questions but holds no values."""
        source = self._source("weight")
        if source is None:
            return torch.empty(self.out_features, self.in_features, dtype=self.source_dtype, device="meta")
        return source

    def __setattr__(self, name: str, value: Any) -> None:
        """`weight` and `bias` can be given anew as in nn.Linear: to the linear that is kept, or as a new source, of
        which the next forward makes the FP8 weight."""
        if name not in ("weight", "bias"):
            return super().__setattr__(name, value)
        kept = self._kept()
        if kept is not None:
            setattr(kept, name, value)
        elif name == "bias":
            super().__setattr__(name, value)
        elif not isinstance(value, nn.Parameter):
            raise TypeError(f"FP8Linear.weight: expected an nn.Parameter, found {type(value).__name__}")
        else:
            self._check_new_source("weight", value)
            self._give_source("weight", _cpu_copy(value))

    def dequantized_weight(self) -> Tensor:
        """The weight that the multiply sees, scale * code, float32 [out_features, in_features]."""
        return _kernels.dequantize(*self._fp8(self._device())["weight"], self.out_features, self.in_features)

    def forward(self, input: Tensor) -> Tensor:
        if _is_compiling() or type(input) is not Tensor or _tracing_state() is not None:
            return self._forward_traced(input)
        buffers = self._buffers
        codes, scale = buffers["weight_codes"], buffers["weight_scale"]
        linear = self._modules.get("linear")
        if linear is None:
            weight, bias, source = None, self._parameters["bias"], self._sources["weight"]
        else:
            weight = source = linear._parameters["weight"]
            bias = linear._parameters["bias"]
        # The common case in as few steps as Python allows; everything else is sorted out below.
        if (codes is None or not self._direct or self._stale or
                (source is not None and not self._current_source(source)) or buffers["weight_codes"] is not codes):
            return self._forward_checked(input)
        if not needs_autograd(input, bias, weight):
            y = runtime().linear_of(input, codes, scale, bias, self.out_features, self.in_features,
                                    self.options.cast_output_back)
            if y is not None:
                return y
        dtype, shape = input.dtype, input.shape
        if (dtype not in DTYPE_NUMBERS or not shape or shape[-1] != self.in_features or not input.is_cpu or
                not codes.is_cpu or input.layout is not torch.strided):
            return self._forward_checked(input)
        out_dtype = dtype if dtype in HALF_DTYPES or self.options.cast_output_back else torch.bfloat16
        return apply_fp8(input, codes, scale, bias, weight, self.out_features, out_dtype)

    def _current_source(self, source: Tensor) -> bool:
        seen, version = self._seen.get("weight", (None, 0))
        return seen is not None and seen() is source and version == _kernels.version_of(source)

    def _forward_checked(self, x: Tensor) -> Tensor:
        check_input(x, self.in_features, self._what())
        if self._uses_source(x):
            return self._source_forward(x)
        codes, scale = self._fp8(x.device)["weight"]
        out_dtype, back = self._dtypes(x.dtype)
        kept = self._kept()
        y = apply_fp8(x, codes, scale, self.bias, None if kept is None else kept.weight, self.out_features, out_dtype)
        return y if back is None else y.to(back)

    def _forward_traced(self, x: Tensor) -> Tensor:
        """For torch.compile, torch.export and fake tensors: one registered operation."""
        check_input(x, self.in_features, self._what())
        if self._uses_source(x):
            return self._source_forward(x)
        if self.weight_codes is None or self._stale:
            self._materialize_untraced(x)
        out_dtype, back = self._dtypes(x.dtype)
        kept = self._kept()
        weight, version = (None, None) if kept is None else (kept.weight, self._version_tensor)
        y = torch.ops.octet.fp8_linear(x, self.weight_codes, self.weight_scale, self.bias, weight, version,
                                       self.out_features, out_dtype)
        return y if back is None else y.to(back)

    @torch.compiler.disable
    def _materialize_untraced(self, x: Tensor) -> None:
        if torch.compiler.is_exporting():
            raise RuntimeError("FP8Linear: its FP8 weight is not there yet; call materialize_fp8_weight() before "
                               "torch.export")
        self.materialize_fp8_weight(x.device)

    def _set(self, name: str, made: tuple[Tensor, Tensor], source: Tensor) -> None:
        super()._set(name, made, source)
        if self.options.fp16_weight_storage == "keep":
            # For compiled graphs, in which Python's own bookkeeping is not run again.
            with torch.inference_mode(False):
                self._version_tensor = torch.tensor(_kernels.version_of(source), device="cpu")

    def __setstate__(self, state: dict) -> None:
        super().__setstate__(state)
        if "_version_tensor" in self.__dict__:
            self._version_tensor = torch.tensor(_kernels.version_of(self._source("weight")), device="cpu")

    def _dtypes(self, dtype: torch.dtype) -> tuple[torch.dtype, Optional[torch.dtype]]:
        """Of the multiply's output, and what that is cast to after it, if anything."""
        if dtype in HALF_DTYPES:
            return dtype, None
        if not self.options.cast_output_back:
            return torch.bfloat16, None
        return torch.float32, (None if dtype == torch.float32 else dtype)

    def _uses_source(self, x: Tensor) -> bool:
        if x.dtype not in HALF_DTYPES and not self.options.cast_inputs:
            return True
        return x.device.type not in self.options.devices or not _kernels.served(x.device)

    def _source_forward(self, x: Tensor) -> Tensor:
        source = self._source("weight")
        if source is None:
            raise self._discarded(f"an input on {x.device} needs the source weight")
        bias = self.bias
        return F.linear(x, source.to(x.device, x.dtype), None if bias is None else bias.to(x.device, x.dtype))

    def _laid_out(self, name: str, codes: Tensor, device: torch.device) -> Tensor:
        if device.type == "meta":
            return torch.empty(self.out_features, self.in_features, dtype=torch.uint8, device=device)
        plain = _kernels.unpack(codes, self.out_features, self.in_features)
        return _kernels.pack(plain.cpu()) if device.type == "cpu" else plain.to(device)

    def _shape(self, name: str) -> tuple[int, ...]:
        return self.out_features, self.in_features

    def extra_repr(self) -> str:
        state = "materialized" if self.materialized else "not materialized"
        return (f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}, "
                f"storage={self.options.fp16_weight_storage}, scale per {self.options.weight_scale}, {state}")
