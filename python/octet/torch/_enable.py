# SPDX-License-Identifier: Apache-2.0
"""From a model to the same model with FP8 layers: which layers, under which names, and their exchange."""
from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Callable, Optional

from torch import nn
from torch.nn.parameter import is_lazy

from octet._octet import ArgumentError

from ._experts import FP8Experts, check_experts, looks_like_experts, why_not_experts
from ._linear import FP8Linear, check_linear, why_not_wrapped
from ._module import FP8Module
from ._options import FP8GemmOptions

ModuleFilter = Callable[[str, nn.Module], bool]

LEFT_ALONE = "_octet_left_alone"  # attribute of a root: name -> why a layer was not wrapped


@dataclass
class Layer:
    """One module that is, or could be, in FP8, with all places that hold it."""

    module: Optional[nn.Module]
    names: list[str] = field(default_factory=list)
    places: list[tuple[nn.Module, str]] = field(default_factory=list)  # parent and key; none for a root
    reason: Optional[str] = None  # why it is left alone


def is_candidate(module: nn.Module) -> bool:
    return isinstance(module, (nn.Linear, FP8Module)) or looks_like_experts(module)


def _parent_reads_weight(parent: Optional[nn.Module]) -> Optional[str]:
    if isinstance(parent, nn.MultiheadAttention):
        return "nn.MultiheadAttention reads its weight itself"
    if isinstance(parent, nn.TransformerEncoderLayer):
        return "the fast path of nn.TransformerEncoderLayer reads its weight itself"
    return None


def find_layers(model: nn.Module) -> list[Layer]:
    """All linears and expert modules of a model, each object once, in the order of their first names."""
    layers: dict[int, Layer] = {}
    visited: set[int] = set()

    def visit(module: nn.Module, name: str, parent: Optional[nn.Module], key: str) -> None:
        if is_candidate(module):
            layer = layers.setdefault(id(module), Layer(module))
            layer.names.append(name)
            if parent is not None:
                layer.places.append((parent, key))
                layer.reason = layer.reason or _parent_reads_weight(parent)
            return  # no descent: what is inside belongs to the layer
        if id(module) in visited:
            return
        visited.add(id(module))
        for child_key, child in module._modules.items():
            if child is not None:
                visit(child, f"{name}.{child_key}" if name else child_key, module, child_key)

    visit(model, "", None, "")
    return list(layers.values())


def _decide(layer: Layer, options: FP8GemmOptions, module_filter: Optional[ModuleFilter]) -> None:
    """Sets `reason` where a layer stays as it is; raises for what is wrong with one that should not."""
    module, name = layer.module, layer.names[0]
    linear = isinstance(module, nn.Linear)
    if not linear and not options.experts:
        layer.reason = "fused experts, and FP8GemmOptions.experts is False"
        return
    if module_filter is not None and not module_filter(name, module):
        layer.reason = "left out by module_filter"
        return
    if layer.reason is None:
        layer.reason = why_not_wrapped(module) if linear else why_not_experts(module)
    if layer.reason is not None:
        return
    what = f"enable_fp8_gemm: {name or type(module).__name__}"
    weights = [getattr(module, matrix) for matrix in (("weight",) if linear else FP8Experts._matrices)]
    if any(not is_lazy(weight) and weight.numel() == 0 for weight in weights):
        layer.reason = "its weight has no elements"
    elif linear:
        check_linear(module, what)
    else:
        check_experts(module, what)


def _owners(model: nn.Module) -> dict[int, list[tuple[str, nn.Module]]]:
    owners: dict[int, list[tuple[str, nn.Module]]] = {}
    for name, module in model.named_modules():
        for parameter in module._parameters.values():
            if parameter is not None:
                owners.setdefault(id(parameter), []).append((name, module))
    return owners


def _wrap(layer: Layer, options: FP8GemmOptions, tied_with: Optional[str]) -> Optional[FP8Module]:
    """The wrapper, put in all places of the layer; None, with the reason noted, where its weight is not finite."""
    kind = FP8Linear if isinstance(layer.module, nn.Linear) else FP8Experts
    try:
        wrapper = kind(layer.module, options=options)
    except ArgumentError as error:
        layer.reason = str(error)
        return None
    wrapper.tied_with = tied_with
    for parent, key in layer.places:
        parent._modules[key] = wrapper
    layer.module = None  # the last hold on a 16-bit weight that is not kept
    return wrapper


def _check_arguments(model, options, module_filter, inplace) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"enable_fp8_gemm: expected an nn.Module, found {type(model).__name__}")
    if not isinstance(options, FP8GemmOptions):
        raise TypeError(f"enable_fp8_gemm: expected FP8GemmOptions, found {type(options).__name__}")
    if module_filter is not None and not callable(module_filter):
        raise TypeError("enable_fp8_gemm: module_filter is called with (name, module); found "
                        f"{type(module_filter).__name__}")
    if not isinstance(inplace, bool):
        raise TypeError(f"enable_fp8_gemm: inplace: expected a bool, found {inplace!r}")


def enable_fp8_gemm(model: nn.Module, *, options: FP8GemmOptions = FP8GemmOptions(),
                    module_filter: Optional[ModuleFilter] = None, inplace: bool = True) -> nn.Module:
    """Puts an :class:`FP8Linear` in the place of every `nn.Linear` of a model (and, if asked for, an
    :class:`FP8Experts` in the place of every fused expert module).

    A module that is shared stays one module, and weights that are shared have one FP8 form. Layers whose parents read
    their weights themselves (`nn.MultiheadAttention`, `nn.TransformerEncoderLayer`), whose arithmetic is not that of
    nn.Linear, or whose weights are not finite are left alone; :func:`report` lists them with the reason. A model that is
    wrapped already is not changed.

    Args:
        model: any module; a root that is itself an `nn.Linear` is wrapped and returned.
        options: see :class:`FP8GemmOptions`.
        module_filter: asked once for each `nn.Linear` object (and each expert module, with experts=True) with its
            first full dotted name ("" for a root) and itself; False leaves it as it is.
        inplace: False works on a deep copy and leaves `model` as it was.

    Returns:
        The model (or its copy, or the wrapper of a root).

    Raises:
        TypeError: for arguments of a wrong type and weights of other dtypes (integers, complex numbers).
        ValueError: for weights on the meta device, and a model without any linear layer.
        Whatever `module_filter` raises. In all these cases the model is as it was.

    Example:
        >>> model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
        >>> model = enable_fp8_gemm(model, module_filter=lambda name, module: name != "lm_head")
    """
    _check_arguments(model, options, module_filter, inplace)
    layers = find_layers(model)
    if not layers:
        raise ValueError(f"enable_fp8_gemm: {type(model).__name__} has no nn.Linear: there is nothing to wrap")
    todo = [layer for layer in layers if not isinstance(layer.module, FP8Module)]
    for layer in todo:
        _decide(layer, options, module_filter)
    if not inplace:
        model = copy.deepcopy(model)
        reasons = [layer.reason for layer in todo]
        todo = [layer for layer in find_layers(model) if not isinstance(layer.module, FP8Module)]
        for layer, reason in zip(todo, reasons, strict=True):
            layer.reason = reason
    return _exchange(model, todo, options)


def _tied_names(model: nn.Module, todo: list[Layer]) -> dict[str, Optional[str]]:
    """For each layer another module, not to be wrapped, that holds the same weight."""
    owners = _owners(model)
    chosen = {id(layer.module) for layer in todo if layer.reason is None}
    tied = {}
    for layer in todo:
        holders = owners.get(id(getattr(layer.module, "weight", None)), [])
        tied[layer.names[0]] = next((name for name, module in holders if id(module) not in chosen), None)
    return tied


def _exchange(model: nn.Module, todo: list[Layer], options: FP8GemmOptions) -> nn.Module:
    tied = _tied_names(model, todo)
    root = model
    reasons = dict(getattr(model, LEFT_ALONE, {}))
    for layer in todo:
        wrapper = None if layer.reason else _wrap(layer, options, tied[layer.names[0]])
        if wrapper is None:
            reasons[layer.names[0]] = layer.reason
            continue
        reasons.pop(layer.names[0], None)
        if not layer.places:
            root = wrapper
    if root is model and todo:
        root.__dict__[LEFT_ALONE] = reasons
    return root
