# SPDX-License-Identifier: Apache-2.0
"""save_fp8 and load_fp8: the FP8 weights of a wrapped model in safetensors."""
import json

import pytest

torch = pytest.importorskip("torch", reason="octet.torch needs PyTorch")
pytest.importorskip("safetensors")
from torch import nn  # noqa: E402

from conftest import STORAGES, Model, stored, unchanged  # noqa: E402
from octet.torch import enable_fp8_gemm, load_fp8, report, save_fp8  # noqa: E402


@pytest.mark.parametrize("kind", STORAGES)
@pytest.mark.parametrize("target", ["plain", "wrapped", "meta"])
def test_saved_fp8_weights_load_to_the_same_bits(tmp_path, kind, target):
    model = Model()
    model.twin = nn.Linear(32, 7)
    model.twin.weight = model.head.weight
    enable_fp8_gemm(model, options=stored(kind, weight_scale="channel"), module_filter=lambda n, m: n != "blocks.0.up")
    save_fp8(model, tmp_path / "saved")
    fresh = Model()
    fresh.twin = nn.Linear(32, 7)
    if target == "wrapped":
        enable_fp8_gemm(fresh)
        fresh.blocks[0].up = nn.Linear(32, 64)
    if target == "meta":
        fresh = fresh.to("meta")
    assert load_fp8(fresh, tmp_path / "saved") is fresh
    x = torch.randn(2, 32)
    with torch.no_grad():
        assert torch.equal(fresh(x), model(x)) and torch.equal(fresh.twin(x), model.twin(x))
    assert fresh.head.weight_codes is fresh.twin.weight_codes
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == ["octet_fp8.json", "octet_fp8.safetensors"]
    from safetensors import safe_open

    with safe_open(tmp_path / "saved" / "octet_fp8.safetensors", "pt") as file:
        saved = file.get_tensor("blocks.1.up.weight")
        assert saved.dtype == torch.float8_e4m3fn and "twin.weight" not in file.keys()
    assert torch.equal(saved.float() * model.blocks[1].up.weight_scale[:, None], model.blocks[1].up.dequantized_weight())


def test_saved_weights_that_do_not_fit_leave_the_model_as_it_was(tmp_path):
    save_fp8(enable_fp8_gemm(Model()), tmp_path)
    model = Model(16)
    unchanged(model, lambda: load_fp8(model, tmp_path), ValueError,
              r"(?s)blocks.0.up.weight: expected shape \(32, 16\), found \(64, 32\).*head.weight")
    model = Model()
    (tmp_path / "octet_fp8.safetensors").write_bytes(b"short")
    unchanged(model, lambda: load_fp8(model, tmp_path), ValueError, "cannot be read")
    (tmp_path / "octet_fp8.json").write_text("{}")
    unchanged(model, lambda: load_fp8(model, tmp_path), ValueError, "expected format octet-fp8")
    with pytest.raises(FileNotFoundError, match="written by save_fp8"):
        load_fp8(model, tmp_path / "absent")
    with pytest.raises(ValueError, match="no layer of the model is wrapped"):
        save_fp8(Model(), tmp_path)


def test_what_is_saved_is_the_weight_as_it_is_now(tmp_path):
    model = enable_fp8_gemm(Model(), options=stored("keep"))
    with torch.no_grad():
        model.head.linear.weight.mul_(-3)
        save_fp8(model, tmp_path)
        loaded, x = load_fp8(Model(), tmp_path), torch.randn(2, 32)
        assert torch.equal(loaded(x), model(x))


def test_a_head_tied_to_an_embedding_stays_tied_to_what_was_saved(tmp_path):
    def tied():
        model = nn.Sequential(nn.Embedding(64, 32), nn.Linear(32, 64, bias=False))
        model[1].weight = model[0].weight
        return model

    model = enable_fp8_gemm(tied())
    save_fp8(model, tmp_path)
    loaded, ids = load_fp8(tied(), tmp_path), torch.tensor([[3, 5]])
    assert torch.equal(loaded(ids), model(ids)) and report(loaded).entries[0].tied_with == "0"


@pytest.mark.parametrize("change", [
    lambda d: d.pop("modules"), lambda d: d.update(aliases=[]), lambda d: d.update(aliases={"a": 3}),
    lambda d: d["modules"].update(head=3), lambda d: d["modules"]["head"].pop("names"),
    lambda d: d["modules"]["head"].update(kind="Linear"), lambda d: d["modules"]["head"].update(source_dtype="nn"),
    lambda d: d["modules"]["head"]["options"].update(weight_scale="block"),
    lambda d: d["modules"]["head"]["options"].update(more=1), lambda d: d["modules"]["head"].pop("options")])
def test_descriptions_that_save_fp8_does_not_write_leave_the_model_as_it_was(tmp_path, change):
    save_fp8(enable_fp8_gemm(Model()), tmp_path)
    path = tmp_path / "octet_fp8.json"
    description = json.loads(path.read_text())
    change(description)
    path.write_text(json.dumps(description))
    model = Model()
    unchanged(model, lambda: load_fp8(model, tmp_path), ValueError, "octet_fp8.json: (expected objects|the module 'head')")


@pytest.mark.parametrize("key, value, message", [
    ("head.weight_scale", torch.ones(3), r"head.weight_scale: expected shape \(1,\) or \(7,\) in F32, found \(3,\)"),
    ("head.weight_scale", torch.ones(1, dtype=torch.float64), "head.weight_scale: .* in F64"),
    ("head.weight", torch.zeros(7, 32), "head.weight: expected F8_E4M3, found F32"),
    ("head.weight", torch.full((7, 32), float("nan")).to(torch.float8_e4m3fn), "head.weight: 224 of its codes are NaN"),
    ("head.bias", torch.zeros(8), r"head.bias: expected shape \(7,\), found \(8,\)"),
    ("norm.weight", None, "norm.weight: missing from the folder"), ("extra", torch.zeros(2), "extra: the model has no such")])
def test_files_that_were_changed_leave_the_model_as_it_was(tmp_path, key, value, message):
    from safetensors.torch import load_file, save_file

    save_fp8(enable_fp8_gemm(Model()), tmp_path)
    path = tmp_path / "octet_fp8.safetensors"
    tensors = load_file(path)
    tensors.pop(key, None)
    save_file(tensors if value is None else {**tensors, key: value}, path)
    model = Model()
    unchanged(model, lambda: load_fp8(model, tmp_path), ValueError, message)
