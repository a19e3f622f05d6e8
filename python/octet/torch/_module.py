# SPDX-License-Identifier: Apache-2.0
"""What FP8Linear and FP8Experts have in common: source weights in three kinds of storage, and FP8 weights that follow
them, are shared, moved, copied and pickled."""
from __future__ import annotations

import weakref
from typing import Any, Callable, Optional

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from . import _kernels
from ._options import FP8GemmOptions

_HOOKS = ("_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called", "_forward_pre_hooks",
          "_forward_pre_hooks_with_kwargs", "_backward_hooks", "_backward_pre_hooks", "_is_full_backward_hook")


def check_source(weight: Tensor, what: str, dims: int) -> None:
    """Refuses weights that have no FP8 form, before anything is changed."""
    if is_lazy(weight):
        raise ValueError(f"{what}: its weight has no shape yet; call the model once before it is wrapped")
    if weight.dtype not in _kernels.WEIGHT_DTYPES:
        raise TypeError(f"{what}: expected a weight in float16, bfloat16, float32 or float64, found {weight.dtype}")
    if weight.is_meta:
        raise ValueError(f"{what}: its weight is on the meta device and has no values; load the model first, or use "
                         "octet.torch.load_fp8")
    if weight.layout != torch.strided:
        raise TypeError(f"{what}: expected a dense weight, found layout {weight.layout}")
    if weight.dim() != dims:
        raise ValueError(f"{what}: expected a weight of {dims} dimensions, found {tuple(weight.shape)}")
    if weight.numel() == 0:
        raise ValueError(f"{what}: its weight {tuple(weight.shape)} has no elements")


class FP8Module(nn.Module):
    """Base of the wrappers. A subclass names its matrices in `_matrices`; the matrix "weight" has the non-persistent
    buffers "weight_codes" and "weight_scale"."""

    _matrices: tuple[str, ...] = ()
    _kept_name = ""  # of the wrapped module, with fp16_weight_storage="keep"

    def __init__(self, wrapped: nn.Module, options: FP8GemmOptions) -> None:
        super().__init__()
        self.options = options
        self.training = wrapped.training
        for name in _HOOKS:
            self.__dict__[name] = wrapped.__dict__[name]
        self.source_dtype = getattr(wrapped, self._matrices[0]).dtype
        self._sources: dict[str, Optional[Tensor]] = {}  # bfloat16 on the CPU; empty with "keep"
        self._seen: dict[str, tuple[Any, int]] = {}  # source that the codes were made from, and its version
        self._stale = False
        # Whether every input on the CPU goes through the FP8 multiply.
        self._direct = options.cast_inputs and "cpu" in options.devices
        self.tied_with: Optional[str] = None  # the name of another layer that holds the same source weight
        for name in self._matrices:
            self.register_buffer(f"{name}_codes", None, persistent=False)
            self.register_buffer(f"{name}_scale", None, persistent=False)
        if options.fp16_weight_storage == "keep":
            self.add_module(self._kept_name, wrapped)

    def _take_sources(self, wrapped: nn.Module) -> None:
        """Ends construction: makes the FP8 weights now where the options say so, and keeps what they say."""
        options = self.options
        weights = {name: getattr(wrapped, name) for name in self._matrices}
        device = weights[self._matrices[0]].device
        now = options.materialize_fp8_on_wrap and device.type in options.devices and _kernels.served(device)
        if now:
            for name, weight in weights.items():
                self._set(name, self._quantized(name, weight), weight)
        if options.fp16_weight_storage == "keep":
            return
        for name, weight in weights.items():
            needed = options.fp16_weight_storage == "cpu_offload" or not now
            self._sources[name] = _cpu_copy(weight) if needed else None
            if needed and now:
                self._seen[name] = _mark(self._sources[name])

    # ---- the FP8 weights ----

    @property
    def materialized(self) -> bool:
        """Whether all FP8 weights are there."""
        return all(self._buffers[f"{name}_codes"] is not None for name in self._matrices)

    def _kept(self) -> Optional[nn.Module]:
        return self._modules.get(self._kept_name)

    def _source(self, name: str) -> Optional[Tensor]:
        kept = self._kept()
        return getattr(kept, name) if kept is not None else self._sources.get(name)

    def _fresh(self, device: torch.device) -> bool:
        """Whether the codes are those of the source as it is now, on `device`."""
        if self._stale:
            return False
        for name in self._matrices:
            codes = self._buffers[f"{name}_codes"]
            if codes is None or codes.device != device:
                return False
            if self._source(name) is not None and not self._current(name):
                return False
        return True

    def _current(self, name: str) -> bool:
        """Whether there is a source, and the codes were made from it as it is."""
        source = self._source(name)
        seen, version = self._seen.get(name, (None, 0))
        return source is not None and seen is not None and seen() is source and version == _kernels.version_of(source)

    def materialize_fp8_weight(self, device: Any = None) -> None:
        """Makes the FP8 weights on `device` (default: where the weights are), if they are not there already.

        Raises:
            ValueError: when the device's type is not in `options.devices`, or a weight has values that are not finite.
            RuntimeError: when this build has no FP8 multiply for the device, or the source weights were discarded.
        """
        device = self._device() if device is None else torch.device(device)
        if device.type not in self.options.devices:
            raise ValueError(f"{self._what()}: cannot be materialized on {device}: its options allow "
                             f"{', '.join(self.options.devices) or 'no device'}; add the type to "
                             "FP8GemmOptions(devices=...)")
        if not _kernels.served(device):
            raise RuntimeError(f"{self._what()}: this build of Octet has no FP8 multiply for {device}; it serves cpu")
        with _kernels.lock:
            if self._fresh(device):
                return
            for name in self._matrices:
                source = self._source(name)
                if source is None:
                    raise self._discarded(f"its FP8 weight cannot be made again on {device}")
                self._check_new_source(name, source)
            for name in self._matrices:
                source = self._source(name)
                self._set(name, self._quantized(name, source), source)
            self._stale = False
            if self.options.fp16_weight_storage == "discard":
                self._sources = dict.fromkeys(self._matrices)
                self._seen = {}

    def invalidate_weight_cache(self) -> None:
        """Says that a source weight was changed in a way that torch does not count (through `.data`): the FP8 weights
        are made again at the next forward. With discarded source weights that forward raises RuntimeError."""
        with _kernels.lock:
            self._stale = True
            for name in self._matrices:
                source, codes = self._source(name), self._buffers[f"{name}_codes"]
                if source is not None and codes is not None:
                    _kernels.forget(source, self.options.weight_scale, codes)

    def _quantized(self, name: str, weight: Tensor) -> tuple[Tensor, Tensor]:
        return _kernels.shared(weight, self.options.weight_scale, lambda: self._quantize(weight))

    def _quantize(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return _kernels.quantize(weight.detach().to("cpu"), self.options.weight_scale)

    def _set(self, name: str, made: tuple[Tensor, Tensor], source: Tensor) -> None:
        # In this order: a thread that reads codes, scale and again the same codes has a pair, and knows its source.
        self._buffers[f"{name}_codes"] = None
        self._buffers[f"{name}_scale"] = made[1]
        self._seen[name] = _mark(source)
        self._buffers[f"{name}_codes"] = made[0]

    def _fp8(self, device: torch.device) -> dict[str, tuple[Tensor, Tensor]]:
        """Codes and scale of each matrix, of one state of the sources; made where they are not there or outdated."""
        with _kernels.lock:
            if not self._fresh(device):
                self.materialize_fp8_weight(device)
            return {name: (self._buffers[f"{name}_codes"], self._buffers[f"{name}_scale"]) for name in self._matrices}

    def _device(self) -> torch.device:
        for name in self._matrices:
            for tensor in (self._buffers[f"{name}_codes"], self._source(name)):
                if tensor is not None:
                    return tensor.device
        return torch.device("cpu")

    def _what(self) -> str:
        return type(self).__name__

    def _discarded(self, trouble: str) -> RuntimeError:
        return RuntimeError(f"{self._what()}: {trouble}, because the 16-bit weight was dropped "
                            "(fp16_weight_storage='discard'); choose fp16_weight_storage='cpu_offload' or 'keep'")

    # ---- moving, copying, saving ----

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True):
        held = {key: self._buffers[key] for name in self._matrices for key in (f"{name}_codes", f"{name}_scale")}
        current = [name for name in self._matrices if self._current(name)]
        for key in held:  # not for fn: it would cast the scales
            self._buffers[key] = None
        try:
            super()._apply(fn, recurse)
            for name in self._matrices:
                codes, scale = held[f"{name}_codes"], held[f"{name}_scale"]
                if codes is not None:
                    held[f"{name}_codes"], held[f"{name}_scale"] = self._moved(name, codes, scale, fn)
        finally:
            self._buffers.update(held)
        for name in current:  # the source was moved or cast, not changed
            self._seen[name] = _mark(self._source(name))
        return self

    def _moved(self, name: str, codes: Tensor, scale: Tensor, fn: Callable) -> tuple[Tensor, Tensor]:
        probe = fn(scale)
        if probe.device == scale.device:
            moved = fn(codes)
            return (moved if moved.dtype == codes.dtype else codes), (probe if probe.dtype == scale.dtype else scale)
        device = probe.device
        made = _kernels.shared(codes, ("moved", device),
                               lambda: (self._laid_out(name, codes, device), scale.to(device)))
        return made[0], made[1]

    def _laid_out(self, name: str, codes: Tensor, device: torch.device) -> Tensor:
        """Codes for another device: packed on the CPU, row-major elsewhere."""
        raise NotImplementedError

    def __getstate__(self) -> dict:
        state = dict(self.__dict__)
        state["_seen"] = sorted(self._seen)  # references are found again by name
        state["_stale"] = self._stale or (self.materialized and self._kept() is not None and
                                          not self._fresh(self._device()))
        return state

    def __setstate__(self, state: dict) -> None:
        super().__setstate__(state)
        self._seen = {name: _mark(self._source(name)) for name in state["_seen"] if self._source(name) is not None}

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.options.fp16_weight_storage == "cpu_offload":
            for name, source in self._sources.items():
                destination[prefix + name] = source

    def _load_from_state_dict(self, state_dict, prefix, metadata, strict, missing, unexpected, errors):
        if self._kept() is None:
            for name in self._matrices:
                given = state_dict.get(prefix + name)
                if given is not None:
                    self._load_source(name, given, prefix, errors)
                elif strict and self.options.fp16_weight_storage == "cpu_offload":
                    missing.append(prefix + name)
            state_dict = {key: value for key, value in state_dict.items()
                          if key not in {prefix + name for name in self._matrices}}
        super()._load_from_state_dict(state_dict, prefix, metadata, strict, missing, unexpected, errors)

    def _load_source(self, name: str, given: Tensor, prefix: str, errors: list) -> None:
        if tuple(given.shape) != self._shape(name):
            errors.append(f"size mismatch for {prefix}{name}: expected {self._shape(name)}, found {tuple(given.shape)}")
            return
        check_source(given, prefix + name, len(self._shape(name)))
        self._give_source(name, given.detach().to("cpu", torch.bfloat16, copy=True))

    def _check_new_source(self, name: str, source: Tensor) -> None:
        check_source(source, f"{self._what()}.{name}", len(self._shape(name)))
        if tuple(source.shape) != self._shape(name):
            raise ValueError(f"{self._what()}.{name}: expected a weight {self._shape(name)}, found {tuple(source.shape)}")

    def _give_source(self, name: str, source: Tensor) -> None:
        """Another source weight, in bfloat16 on the CPU; the codes are made again at the next forward."""
        self._sources[name] = source
        self._buffers[f"{name}_codes"] = self._buffers[f"{name}_scale"] = None
        self._seen.pop(name, None)
        self._stale = False

    def _shape(self, name: str) -> tuple[int, ...]:
        raise NotImplementedError


def _mark(source: Tensor) -> tuple[Any, int]:
    return weakref.ref(source), _kernels.version_of(source)


def _cpu_copy(weight: Tensor) -> Tensor:
    """The weight in bfloat16 on the CPU, the same for all modules that share it; its own memory where it is one."""

    def make() -> tuple[Tensor, ...]:
        with torch.inference_mode(False), torch.no_grad():
            return (weight.detach().to("cpu", torch.bfloat16),)

    return _kernels.shared(weight, "cpu copy", make)[0]
