# SPDX-License-Identifier: Apache-2.0
"""Fused expert modules of transformers, their 3-D weights in FP8."""
from __future__ import annotations

import inspect
from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import _kernels
from ._kernels import HALF_DTYPES
from ._linear import apply_fp8, check_input
from ._module import FP8Module, check_source
from ._options import FP8GemmOptions

_ARGUMENTS = ["hidden_states", "top_k_index", "top_k_weights"]


def looks_like_experts(module: nn.Module) -> bool:
    """Whether a module holds the experts of a mixture as two 3-D parameters."""
    weights = [module._parameters.get(name) for name in FP8Experts._matrices]
    return all(weight is not None and weight.dim() == 3 for weight in weights)


def why_not_experts(module: nn.Module) -> Optional[str]:
    """Why a fused expert module computes otherwise than down(act(gate(x)) * up(x)), or None when it does not."""
    gate_up, down = module.gate_up_proj, module.down_proj
    experts, double, hidden = gate_up.shape
    if tuple(down.shape) != (experts, hidden, double // 2) or double % 2:
        return f"its weights lie otherwise: gate_up_proj {tuple(gate_up.shape)}, down_proj {tuple(down.shape)}"
    for attribute, usual in (("is_transposed", False), ("has_bias", False), ("has_gate", True),
                             ("is_concatenated", True), ("has_post_expert_norm", False)):
        if getattr(module, attribute, usual) != usual:
            return f"{attribute} is {getattr(module, attribute)}"
    if set(module._parameters) != set(FP8Experts._matrices):
        return "it has other parameters beside its two matrices"
    gate = getattr(type(module), "_apply_gate", None)
    if not callable(getattr(module, "act_fn", None)) or (gate is not None and gate.__name__ != "_default_apply_gate"):
        return "it has a gate of its own"
    if list(inspect.signature(module.forward).parameters) != _ARGUMENTS or "forward" in module.__dict__:
        return "it has a forward of its own"
    return None


def check_experts(experts: nn.Module, what: str) -> None:
    """Refuses expert modules that have no FP8 form, before anything is changed."""
    for name in FP8Experts._matrices:
        check_source(getattr(experts, name), f"{what}.{name}", 3)


class FP8Experts(FP8Module):
    """The experts of a mixture with FP8 weights, one scale for each expert's matrix (or each of its rows), in the
    place of a fused expert module of transformers.

    Shapes: gate_up_proj [E, 2I, H], down_proj [E, H, I]; hidden_states [T, H], top_k_index and top_k_weights [T, k]
    -> [T, H]. Each chosen expert computes down(act(gate(x)) * up(x)); its answers are weighted and added up.

    Args:
        experts: the module to wrap: parameters `gate_up_proj` and `down_proj`, and `act_fn`.
        options: see :class:`FP8GemmOptions`.

    Raises:
        TypeError: for a module that is no such one, with the reason.

    Example:
        >>> FP8Experts(model.model.layers[0].mlp.experts)
    """

    _matrices = ("gate_up_proj", "down_proj")
    _kept_name = "experts"

    def __init__(self, experts: nn.Module, *, options: FP8GemmOptions = FP8GemmOptions()) -> None:
        if not isinstance(experts, nn.Module) or not looks_like_experts(experts):
            raise TypeError("FP8Experts: expected a module with 3-D parameters gate_up_proj and down_proj, found "
                            f"{type(experts).__name__}")
        if (reason := why_not_experts(experts)) is not None:
            raise TypeError(f"FP8Experts: {type(experts).__name__} cannot be wrapped: {reason}")
        check_experts(experts, "FP8Experts")
        super().__init__(experts, options)
        self.num_experts, double, self.hidden_dim = experts.gate_up_proj.shape
        self.intermediate_dim = double // 2
        self.act_fn = experts.act_fn
        self._take_sources(experts)

    @classmethod
    def _from_fp8(cls, tensors: dict[str, Tensor], like: nn.Module, options: FP8GemmOptions) -> "FP8Experts":
        """Discarded experts from row-major codes [E, N, K] and scales that were saved."""
        made = cls.__new__(cls)
        FP8Module.__init__(made, like, options)
        made.num_experts, double, made.hidden_dim = tensors["gate_up_proj"].shape
        made.intermediate_dim = double // 2
        made.act_fn = like.act_fn
        for name in cls._matrices:
            made._buffers[f"{name}_codes"] = torch.stack([_kernels.pack(codes) for codes in tensors[name]])
            made._buffers[f"{name}_scale"] = tensors[f"{name}_scale"]
        made._sources = dict.fromkeys(cls._matrices)
        return made

    def _quantize(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        codes, scales = None, []
        for index in range(weight.shape[0]):  # one expert at a time: no second copy of all in sight
            made = _kernels.quantize(weight[index].detach().to("cpu"), self.options.weight_scale)
            if codes is None:
                with torch.inference_mode(False):
                    codes = _kernels.cleared((weight.shape[0], *made[0].shape))
            codes[index] = made[0]
            scales.append(made[1])
        with torch.inference_mode(False):
            return codes, torch.stack(scales)

    @torch.compiler.disable
    def forward(self, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
        check_input(hidden_states, self.hidden_dim, self._what())
        fp8 = ((hidden_states.dtype in HALF_DTYPES or self.options.cast_inputs) and
               hidden_states.device.type in self.options.devices and _kernels.served(hidden_states.device))
        weights = self._fp8(hidden_states.device) if fp8 else None
        if not fp8 and any(self._source(name) is None for name in self._matrices):
            raise self._discarded(f"an input on {hidden_states.device} needs the source weights")
        rounded = fp8 and hidden_states.dtype not in HALF_DTYPES and not self.options.cast_output_back
        result = torch.zeros_like(hidden_states, dtype=torch.bfloat16 if rounded else None)
        for expert in top_k_index.unique().tolist():
            if not 0 <= expert < self.num_experts:  # another rank's
                continue
            token, place = torch.where(top_k_index == expert)
            gate, up = self._linear("gate_up_proj", expert, hidden_states[token], weights).chunk(2, dim=-1)
            y = self._linear("down_proj", expert, self.act_fn(gate) * up, weights)
            y = y * top_k_weights[token, place, None]
            result = result.index_add(0, token, y.to(result.dtype))
        return result

    def _linear(self, name: str, expert: int, x: Tensor,
                weights: Optional[dict[str, tuple[Tensor, Tensor]]]) -> Tensor:
        """x [t, K] -> [t, N] through one expert's matrix."""
        source = self._source(name)
        if weights is None:
            return F.linear(x, source[expert].to(x.device, x.dtype))
        out = x.dtype if x.dtype in HALF_DTYPES else torch.float32
        kept = None if self._kept() is None else source[expert]
        codes, scale = weights[name]
        y = apply_fp8(x, codes[expert], scale[expert], None, kept, self._shape(name)[1], out)
        return y.to(x.dtype)

    def dequantized_weight(self, name: str) -> Tensor:
        """What the multiply sees of "gate_up_proj" or "down_proj", float32 [E, N, K]."""
        _, rows, cols = self._shape(name)
        codes, scales = self._fp8(self._device())[name]
        return torch.stack([_kernels.dequantize(c, s, rows, cols) for c, s in zip(codes, scales)])

    def _laid_out(self, name: str, codes: Tensor, device: torch.device) -> Tensor:
        shape = self._shape(name)
        if device.type == "meta":
            return torch.empty(shape, dtype=torch.uint8, device=device)
        if device.type == "cpu":
            return torch.stack([_kernels.pack(plain) for plain in codes.cpu()])
        return torch.stack([_kernels.unpack(packed, *shape[1:]) for packed in codes]).to(device)

    def _shape(self, name: str) -> tuple[int, ...]:
        if name == "gate_up_proj":
            return self.num_experts, 2 * self.intermediate_dim, self.hidden_dim
        return self.num_experts, self.hidden_dim, self.intermediate_dim

    def extra_repr(self) -> str:
        return (f"num_experts={self.num_experts}, hidden_dim={self.hidden_dim}, "
                f"intermediate_dim={self.intermediate_dim}, storage={self.options.fp16_weight_storage}")
