# SPDX-License-Identifier: Apache-2.0
"""Files of torch.save for tests/golden/pickles: the zip format and the one before PyTorch 1.6, and the same tensors as
safetensors, which says what must be read."""

from collections import OrderedDict
from pathlib import Path

import torch
from safetensors.torch import load_file

from golden.files import fresh_folder, write_json, write_tensors


def tensors() -> OrderedDict:
    generator = torch.Generator().manual_seed(7)
    base = torch.randn(4, 6, generator=generator)
    state = OrderedDict()
    for name in ("float64", "float32", "float16", "bfloat16"):
        state[name] = torch.randn(3, 5, generator=generator).to(getattr(torch, name))
    for name in ("int64", "int32", "int16", "int8", "uint8"):
        state[name] = torch.arange(7).to(getattr(torch, name))
    state["bool"] = torch.tensor([True, False, True])
    state["parameter"] = torch.nn.Parameter(torch.randn(2, 2, generator=generator))
    state["base"] = base
    state["rows"] = base[1:3]  # shares the storage of "base"
    state["columns"] = base[:, 2:5]  # rows apart
    state["block"] = torch.randn(3, 4, 5, generator=generator)[1:, 1:3, :4]
    state["alias"] = base
    state["scalar"] = torch.tensor(2.5)
    state["empty"] = torch.empty(0, 4)
    state["column"] = base.t()[:1]  # one row, whose stride is of no matter
    return state


def with_versions(state: OrderedDict) -> OrderedDict:
    """As a module's state_dict: versions of its parts hang on the dictionary."""
    state._metadata = OrderedDict([("", {"version": 1}), ("layer", {"version": 2})])
    return state


def write_opt_folder(root: Path, source: Path) -> None:
    """The golden OPT as its makers publish it: no safetensors, names without the outer module, two files of both formats."""
    folder = fresh_folder(root / "opt_bin")
    state = {name.removeprefix("model."): tensor for name, tensor in load_file(source / "model.safetensors").items()}
    names = sorted(name for name in state if name != "lm_head.weight")
    parts = {"pytorch_model-00001-of-00002.bin": names[::2], "pytorch_model-00002-of-00002.bin": names[1::2]}
    for index, (file, held) in enumerate(parts.items()):
        torch.save({name: state[name] for name in held}, folder / file, _use_new_zipfile_serialization=index == 0)
    total = sum(tensor.nbytes for tensor in state.values())
    write_json(folder / "pytorch_model.bin.index.json",
               {"metadata": {"total_size": total},
                "weight_map": {name: file for file, held in parts.items() for name in held}})
    (folder / "config.json").write_bytes((source / "config.json").read_bytes())


def write_pickles(root: Path) -> str:
    folder = fresh_folder(root / "pickles")
    state = tensors()
    write_tensors(folder / "expected.safetensors", state)
    torch.save(with_versions(state), folder / "zip.bin")
    torch.save(dict(state), folder / "zip_protocol5.bin", pickle_protocol=5)
    torch.save(state, folder / "old.bin", _use_new_zipfile_serialization=False)
    torch.save({"fp8": torch.arange(8.0).to(torch.float8_e4m3fn)}, folder / "fp8.bin")
    torch.save({"turned": torch.arange(6.0).view(2, 3).t()}, folder / "transposed.bin")
    torch.save({"spread": torch.arange(3.0).expand(2, 3)}, folder / "expanded.bin")
    torch.save({"model": dict(state), "epoch": 3}, folder / "training.bin")
    torch.save(torch.nn.Linear(2, 2), folder / "module.bin")
    write_opt_folder(folder, root / "more_models" / "opt")
    return f"{sum(1 for file in folder.rglob('*') if file.is_file())} files"
