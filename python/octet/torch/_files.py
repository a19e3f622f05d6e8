# SPDX-License-Identifier: Apache-2.0
"""FP8 weights of a wrapped model on disk: one safetensors file, and a description beside it."""
from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import tempfile
from typing import Any, Callable, Optional, Union

import torch
from torch import Tensor, nn

from . import _kernels
from ._enable import Layer, find_layers, is_candidate
from ._experts import FP8Experts
from ._linear import FP8Linear
from ._module import FP8Module
from ._options import FP8GemmOptions

_WEIGHTS = "octet_fp8.safetensors"
_DESCRIPTION = "octet_fp8.json"
_FORMAT = "octet-fp8"
_VERSION = 1
_KINDS = {"FP8Linear": FP8Linear, "FP8Experts": FP8Experts}

Folder = Union[str, os.PathLike]


def _safetensors():
    try:
        import safetensors
        import safetensors.torch
    except ImportError as error:
        raise ImportError("octet.torch.save_fp8 and load_fp8 need the package safetensors: pip install safetensors") \
            from error
    return safetensors


def _write_atomically(path: pathlib.Path, write: Callable[[pathlib.Path], None]) -> None:
    """Readers see the whole file or none, and a failure leaves nothing behind."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    temporary = pathlib.Path(name)
    try:
        write(temporary)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _row_major(module: FP8Module, matrix: str) -> Tensor:
    """float8_e4m3fn [N, K], or [E, N, K] of experts."""
    codes, shape = module._buffers[f"{matrix}_codes"], module._shape(matrix)
    if len(shape) == 2:
        plain = _kernels.unpack(codes, *shape)
    else:
        plain = torch.stack([_kernels.unpack(one, *shape[1:]) for one in codes])
    return plain.cpu().view(torch.float8_e4m3fn)


def _rest(model: nn.Module, wrapped: list[Layer]) -> dict[str, Tensor]:
    """The state_dict without what the FP8 weights stand for."""
    dropped = set()
    for layer in wrapped:
        for name in layer.names:
            prefix = f"{name}." if name else ""
            for matrix in layer.module._matrices:
                dropped |= {prefix + matrix, f"{prefix}{layer.module._kept_name}.{matrix}"}
    return {key: value for key, value in model.state_dict().items() if key not in dropped}


def _plain_key(key: str, wrapped: list[Layer]) -> str:
    """The name that a bias has in the model without wrappers."""
    for layer in wrapped:
        for name in layer.names:
            inner = f"{name}.{layer.module._kept_name}." if name else f"{layer.module._kept_name}."
            if key.startswith(inner):
                return (f"{name}." if name else "") + key[len(inner):]
    return key


def save_fp8(model: nn.Module, folder: Folder) -> None:
    """Writes the FP8 weights of a wrapped model, and all else of its state, into `folder`.

    The weights are float8_e4m3fn [N, K] named "<module>.weight", their scales float32 "<module>.weight_scale"; shared
    tensors are written once. Source weights that are kept or offloaded are not written. Layers that are not
    materialized yet are materialized first.

    Raises:
        TypeError: when `model` is no module. ValueError: when no layer of it is wrapped.
        ImportError: without the package safetensors. OSError: when the folder cannot be written.

    Example:
        >>> save_fp8(enable_fp8_gemm(model), "model-fp8")
        >>> model = load_fp8(AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16), "model-fp8")
    """
    safetensors = _safetensors()
    if not isinstance(model, nn.Module):
        raise TypeError(f"save_fp8: expected an nn.Module, found {type(model).__name__}")
    wrapped = [layer for layer in find_layers(model) if isinstance(layer.module, FP8Module)]
    if not wrapped:
        raise ValueError("save_fp8: no layer of the model is wrapped; call enable_fp8_gemm first")
    tensors: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    first: dict[tuple, str] = {}  # storage -> name

    def add(name: str, key: tuple, make: Callable[[], Tensor]) -> None:
        if key in first:
            aliases[name] = first[key]
        else:
            first[key] = name
            tensors[name] = make()

    modules = {}
    for layer in wrapped:
        module = layer.module
        prefix = f"{layer.names[0]}." if layer.names[0] else ""
        for matrix, (codes, scale) in module._fp8(module._device()).items():
            add(prefix + matrix, ("codes", codes.data_ptr()), lambda m=module, x=matrix: _row_major(m, x))
            add(f"{prefix}{matrix}_scale", ("scale", scale.data_ptr()), lambda s=scale: s.cpu().contiguous())
        modules[layer.names[0]] = {"kind": type(module).__name__, "options": dataclasses.asdict(module.options),
                                   "names": layer.names, "source_dtype": str(module.source_dtype),
                                   "tied_with": module.tied_with}
    for name, value in _rest(model, wrapped).items():
        if isinstance(value, Tensor):
            key = ("rest", value.data_ptr(), value.dtype, value.shape, value.stride()) if value.numel() else (name,)
            add(_plain_key(name, wrapped), key, lambda v=value: v.detach().cpu().contiguous())
    description = {"format": _FORMAT, "version": _VERSION, "modules": modules, "aliases": aliases}
    path = pathlib.Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    _write_atomically(path / _WEIGHTS, lambda to: safetensors.torch.save_file(tensors, to))
    _write_atomically(path / _DESCRIPTION, lambda to: to.write_text(json.dumps(description, indent=1)))


def _read_description(folder: pathlib.Path) -> dict[str, Any]:
    path = folder / _DESCRIPTION
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"load_fp8: {path} is missing; was the folder written by save_fp8?") from None
    except ValueError as error:
        raise ValueError(f"load_fp8: {path} is not JSON: {error}") from None
    found = (description.get("format"), description.get("version")) if isinstance(description, dict) else None
    if found != (_FORMAT, _VERSION):
        raise ValueError(f"load_fp8: {path}: expected format {_FORMAT} version {_VERSION}, found {found}")
    _check_description(path, description)
    return description


def _check_description(path: pathlib.Path, description: dict[str, Any]) -> None:
    modules, aliases = description.get("modules"), description.get("aliases")
    if not isinstance(modules, dict) or not isinstance(aliases, dict) or not all(
            isinstance(target, str) for target in aliases.values()):
        raise ValueError(f"load_fp8: {path}: expected objects 'modules' and 'aliases'")
    for name, what in modules.items():
        try:
            sound = (what["kind"] in _KINDS and isinstance(what["tied_with"], (str, type(None))) and
                     all(isinstance(other, str) for other in what["names"]) and
                     isinstance(getattr(torch, what["source_dtype"].removeprefix("torch.")), torch.dtype))
            _discarding(what["options"])
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"load_fp8: {path}: the module '{name}' is not described as save_fp8 does: "
                             f"{error}") from error
        if not sound:
            raise ValueError(f"load_fp8: {path}: the module '{name}' is not described as save_fp8 does")


def _discarding(options: dict[str, Any]) -> FP8GemmOptions:
    """The options of a saved layer, for one that is as after "discard"."""
    return FP8GemmOptions(**{**options, "devices": tuple(options["devices"]), "fp16_weight_storage": "discard",
                             "cast_inputs": True})


def _scale_shapes(weight: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """What the scales of codes [N, K] or [E, N, K] may be: one for a matrix, or one for each of its rows."""
    return (*weight[:-2], 1), weight[:-1]


def _faults(layers: dict[str, Layer], modules: dict[str, Any], header: Callable[[str], Any]) -> list[str]:
    """Everything in which the model and the folder differ."""
    faults = []
    for name, what in modules.items():
        layer = layers.get(name)
        if layer is None:
            faults.append(f"{name}: the model has no such linear layer or expert module")
            continue
        prefix = f"{name}." if name else ""
        for matrix in _KINDS[what["kind"]]._matrices:
            expected = _shape_of_matrix(layer.module, matrix)
            found, dtype = header(prefix + matrix)
            scale, scale_dtype = header(f"{prefix}{matrix}_scale")
            if found != expected:
                faults.append(f"{prefix}{matrix}: expected shape {expected}, found {found}")
            elif dtype != "F8_E4M3":
                faults.append(f"{prefix}{matrix}: expected F8_E4M3, found {dtype}")
            elif scale not in _scale_shapes(expected) or scale_dtype != "F32":
                faults.append(f"{prefix}{matrix}_scale: expected shape "
                              f"{' or '.join(map(str, _scale_shapes(expected)))} in F32, found {scale} in {scale_dtype}")
    return faults


def _shape_of_matrix(module: nn.Module, matrix: str) -> Optional[tuple[int, ...]]:
    if isinstance(module, FP8Module):
        return module._shape(matrix) if matrix in module._matrices else None
    weight = getattr(module, matrix, None)
    return None if weight is None else tuple(weight.shape)


def load_fp8(model: nn.Module, folder: Folder) -> nn.Module:
    """Puts the FP8 weights that `save_fp8` wrote into a model of the same structure, which need not be wrapped and may
    be on the meta device. Nothing is quantized; the layers are as after "discard".

    Returns:
        The model, changed in place (or the wrapper of a root that is itself a linear layer).

    Raises:
        ValueError: when the model and the folder do not fit, with all differences; the model is then as it was.
        FileNotFoundError: when the folder was not written by `save_fp8`.
    """
    safetensors = _safetensors()
    if not isinstance(model, nn.Module):
        raise TypeError(f"load_fp8: expected an nn.Module, found {type(model).__name__}")
    path = pathlib.Path(folder)
    description = _read_description(path)
    aliases, modules = description["aliases"], description["modules"]
    layers = {layer.names[0]: layer for layer in find_layers(model)}
    try:
        file = safetensors.safe_open(path / _WEIGHTS, framework="pt")
    except (OSError, safetensors.SafetensorError) as error:
        raise ValueError(f"load_fp8: {path / _WEIGHTS} cannot be read: {error}") from error
    with file:
        keys = set(file.keys())

        def stored(name: str) -> str:
            return aliases.get(name, name)

        def header(name: str):
            """Shape and dtype."""
            if stored(name) not in keys:
                return None, None
            entry = file.get_slice(stored(name))
            return tuple(entry.get_shape()), entry.get_dtype()

        def shape_of(name: str):
            return header(name)[0]

        faults = _faults(layers, modules, header)
        taken = {f"{name}.{matrix}{end}" if name else f"{matrix}{end}" for name, what in modules.items()
                 for matrix in _KINDS[what["kind"]]._matrices
                 for end in ("", "_scale")}
        rest = sorted((keys | set(aliases)) - taken)
        state = {key: value for key, value in model.state_dict().items() if isinstance(value, Tensor)}
        wrapped = [layer for layer in layers.values() if isinstance(layer.module, FP8Module)]
        known = {_plain_key(key, wrapped): value for key, value in state.items()}
        faults += [f"{key}: the model has no such tensor" for key in rest if key not in known]
        faults += [f"{key}: expected shape {tuple(known[key].shape)}, found {shape_of(key)}" for key in rest
                   if key in known and tuple(known[key].shape) != shape_of(key)]
        covered = taken | set(rest) | {f"{alias}.{matrix}" for name, what in modules.items()
                                       for alias in what["names"] for matrix in ("weight", *FP8Experts._matrices)}
        faults += [f"{key}: missing from the folder" for key in sorted(set(known) - covered)
                   if not is_candidate(_owner(model, key))]
        if faults:
            raise ValueError(f"load_fp8: {path} does not fit the model:\n  " + "\n  ".join(faults))
        cache: dict[str, Tensor] = {}

        def tensor(name: str) -> Tensor:
            key = stored(name)
            if key not in cache:
                cache[key] = file.get_tensor(key)
            return cache[key]

        _check_codes(path, {f"{name}.{matrix}" if name else matrix for name, what in modules.items()
                            for matrix in _KINDS[what["kind"]]._matrices}, tensor)
        return _install(model, layers, modules, {key: tensor(key) for key in rest}, tensor)


def _check_codes(path: pathlib.Path, names: set[str], tensor: Callable[[str], Tensor]) -> None:
    """Refuses codes that `save_fp8` never writes."""
    counts = {name: _kernels.nan_codes(tensor(name).view(torch.uint8)) for name in sorted(names)}
    faults = [f"{name}: {count} of its codes are NaN" for name, count in counts.items() if count]
    if faults:
        raise ValueError(f"load_fp8: {path / _WEIGHTS} is damaged; save the model again:\n  " + "\n  ".join(faults))


def _owner(model: nn.Module, key: str) -> nn.Module:
    module = model
    for part in key.split(".")[:-1]:
        if isinstance(module, FP8Module):
            return module
        module = module._modules.get(part, module)
    return module


def _install(model: nn.Module, layers: dict[str, Layer], modules: dict[str, Any], rest: dict[str, Tensor],
             tensor: Callable[[str], Tensor]) -> nn.Module:
    root = model
    packed: dict[int, Tensor] = {}  # row-major codes -> the same packed, for layers that share them
    for name, what in modules.items():
        options = _discarding(what["options"])
        layer, prefix = layers[name], f"{name}." if name else ""
        if what["kind"] == "FP8Experts":
            given = {key: tensor(prefix + key) for key in ("gate_up_proj", "down_proj")}
            given = {key: value.view(torch.uint8) for key, value in given.items()}
            given |= {f"{key}_scale": tensor(f"{prefix}{key}_scale") for key in ("gate_up_proj", "down_proj")}
            made: FP8Module = FP8Experts._from_fp8(given, layer.module, options)
        else:
            codes = tensor(prefix + "weight")
            made = FP8Linear._from_fp8(codes.view(torch.uint8), tensor(f"{prefix}weight_scale"), layer.module, options)
            made._buffers["weight_codes"] = packed.setdefault(id(codes), made._buffers["weight_codes"])
        made.source_dtype = getattr(torch, what["source_dtype"].removeprefix("torch."))
        made.tied_with = what["tied_with"]
        for parent, key in layer.places:
            parent._modules[key] = made
        if not layer.places:
            root = made
    root.load_state_dict(rest, strict=False, assign=any(t.is_meta for t in root.state_dict().values()
                                                        if isinstance(t, Tensor)))
    return root
