# SPDX-License-Identifier: Apache-2.0
"""What of a model is in FP8, what is not and why, and what it takes."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from torch import Tensor, nn

from ._enable import LEFT_ALONE, find_layers
from ._experts import FP8Experts
from ._module import FP8Module


@dataclass(frozen=True)
class ReportEntry:
    """One linear layer or fused expert module.

    Attributes:
        name: its first dotted name; `names` has all of a shared module.
        kind: "linear" or "experts".
        wrapped: whether it is an FP8 layer.
        reason: why it is not, or what is special about it; may be empty.
        bytes_16bit: what its weights take in 16 bits.
        bytes: what they take now: codes, scales, and source weights that are kept. Memory shared with an earlier
            entry counts there.
        tied_with: another layer that keeps the same 16-bit weight, so that wrapping this one saved nothing.
    """

    name: str
    names: tuple[str, ...]
    kind: str
    wrapped: bool
    reason: str
    bytes_16bit: int
    bytes: int
    tied_with: Optional[str] = None


@dataclass(frozen=True)
class Report:
    """The entries, and sums over those that are wrapped and share no 16-bit weight with a layer that is not."""

    entries: tuple[ReportEntry, ...]

    @property
    def wrapped(self) -> tuple[ReportEntry, ...]:
        return tuple(entry for entry in self.entries if entry.wrapped)

    @property
    def left_alone(self) -> tuple[ReportEntry, ...]:
        return tuple(entry for entry in self.entries if not entry.wrapped)

    @property
    def bytes_16bit(self) -> int:
        return sum(entry.bytes_16bit for entry in self.wrapped if entry.tied_with is None)

    @property
    def bytes(self) -> int:
        return sum(entry.bytes for entry in self.wrapped if entry.tied_with is None)

    def __str__(self) -> str:
        lines = [f"{'layer':<48} {'16-bit bytes':>14} {'bytes':>14}  what"]
        for entry in self.entries:
            what = ("FP8" if entry.wrapped else "not wrapped") + (f": {entry.reason}" if entry.reason else "")
            lines.append(f"{entry.name or '(root)':<48} {entry.bytes_16bit:>14} {entry.bytes:>14}  {what}")
        share = f" ({self.bytes / self.bytes_16bit:.3f})" if self.bytes_16bit else ""
        lines.append(f"{len(self.wrapped)} wrapped, {len(self.left_alone)} not; wrapped and untied: "
                     f"{self.bytes_16bit} -> {self.bytes} bytes{share}")
        return "\n".join(lines)


def _tensors(module: nn.Module) -> list[Tensor]:
    """All memory of a layer's weights, without its bias."""
    if not isinstance(module, FP8Module):
        names = FP8Experts._matrices if not isinstance(module, nn.Linear) else ("weight",)
        return [getattr(module, name) for name in names]
    found = []
    for name in module._matrices:
        found += [module._buffers[f"{name}_codes"], module._buffers[f"{name}_scale"], module._source(name)]
    return [tensor for tensor in found if tensor is not None]


def _elements(module: nn.Module) -> int:
    if isinstance(module, FP8Module):
        total = 0
        for name in module._matrices:
            product = 1
            for size in module._shape(name):
                product *= size
            total += product
        return total
    return sum(tensor.numel() for tensor in _tensors(module))


def report(model: nn.Module) -> Report:
    """Lists every linear layer and fused expert module of a model.

    Example:
        >>> print(report(enable_fp8_gemm(model)))
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"report: expected an nn.Module, found {type(model).__name__}")
    reasons = getattr(model, LEFT_ALONE, {})
    counted: set[int] = set()
    entries = []
    for layer in find_layers(model):
        module, name = layer.module, layer.names[0]
        wrapped = isinstance(module, FP8Module)
        tensors = [t for t in _tensors(module) if t.is_meta or t.data_ptr() not in counted]
        shares = wrapped and not tensors
        counted.update(t.data_ptr() for t in tensors if not t.is_meta)
        reason = "" if wrapped else reasons.get(name, layer.reason or "enable_fp8_gemm was not asked to")
        if wrapped and module.tied_with is not None:
            reason = f"tied: {module.tied_with or 'the root'} keeps the 16-bit weight"
        elif shares:
            reason = "shares the FP8 weight of an earlier layer"
        experts = isinstance(module, FP8Experts) or not isinstance(module, (nn.Linear, FP8Module))
        entries.append(ReportEntry(name=name, names=tuple(layer.names), kind="experts" if experts else "linear",
                                   wrapped=wrapped, reason=reason, bytes_16bit=0 if shares else 2 * _elements(module),
                                   bytes=sum(t.numel() * t.element_size() for t in tensors),
                                   tied_with=getattr(module, "tied_with", None) if wrapped else None))
    return Report(tuple(entries))
