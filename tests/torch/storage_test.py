# SPDX-License-Identifier: Apache-2.0
"""FP8Linear: what becomes of the source weight, on which devices, through casts, moves and state dicts."""
import gc
import weakref

import pytest

torch = pytest.importorskip("torch", reason="octet.torch needs PyTorch")
from torch import nn  # noqa: E402

from conftest import STORAGES, close, linear, options, reference, stored  # noqa: E402
from octet.torch import FP8Linear  # noqa: E402


def test_keep_holds_the_linear_and_its_state_dict_names():
    layer = linear()
    wrapped = FP8Linear(layer, options=stored("keep"))
    assert wrapped.linear is layer and wrapped.weight is layer.weight
    assert sorted(wrapped.state_dict()) == ["linear.bias", "linear.weight"]
    assert dict(wrapped.named_parameters()).keys() == {"linear.weight", "linear.bias"}


def test_keep_quantizes_again_when_the_weight_changes():
    wrapped = FP8Linear(linear(), options=stored("keep"))
    x = torch.randn(2, 130, dtype=torch.bfloat16)

    def right():
        with torch.no_grad():
            y = wrapped(x)
        close(y, reference(x, wrapped.linear.weight, wrapped.bias))
        return wrapped.weight_codes

    codes = right()
    assert right() is codes  # not again without a reason
    with torch.no_grad():
        wrapped.linear.weight.mul_(-3)  # the version
    codes, old = right(), codes
    assert codes is not old
    wrapped.load_state_dict({"linear.weight": torch.randn(70, 130, dtype=torch.bfloat16),
                             "linear.bias": torch.randn(70, dtype=torch.bfloat16)}, assign=True)  # the Parameter
    assert right() is not codes
    codes = wrapped.weight_codes
    wrapped.linear.weight.data.copy_(torch.randn(70, 130))  # torch does not count this
    wrapped.invalidate_weight_cache()
    assert right() is not codes


def test_keep_follows_an_optimizer():
    wrapped = FP8Linear(linear(dtype=torch.float32), options=stored("keep"))
    optimizer = torch.optim.SGD(wrapped.parameters(), lr=0.5)
    x = torch.randn(2, 130)
    before = wrapped(x)
    before.square().sum().backward()
    optimizer.step()
    with torch.no_grad():
        close(wrapped(x), reference(x, wrapped.linear.weight, wrapped.bias))
        assert not torch.equal(wrapped(x), before)


def test_cpu_offload_keeps_a_bfloat16_copy():
    layer = linear(dtype=torch.float32)
    wrapped = FP8Linear(layer, options=stored("cpu_offload"))
    assert wrapped.weight.dtype == torch.bfloat16 and torch.equal(wrapped.weight, layer.weight.bfloat16())
    codes = wrapped.weight_codes
    wrapped.invalidate_weight_cache()
    x = torch.randn(2, 130)
    with torch.no_grad():
        y = wrapped(x)
    assert wrapped.weight_codes is not None and torch.equal(wrapped.weight_codes, codes)
    close(y, reference(x, layer.weight, layer.bias))
    elsewhere = FP8Linear(layer, options=stored("cpu_offload", devices=("cuda",)))
    assert not elsewhere.materialized
    with torch.no_grad():
        expected = nn.functional.linear(x, layer.weight.bfloat16().float(), layer.bias)
        assert torch.equal(elsewhere(x), expected)


def test_cpu_offload_has_the_state_dict_of_the_linear():
    layer, other = linear(), linear()
    wrapped = FP8Linear(layer, options=stored("cpu_offload"))
    assert {k: v.shape for k, v in wrapped.state_dict().items()} == {k: v.shape for k, v in layer.state_dict().items()}
    wrapped.load_state_dict(other.state_dict())
    x = torch.randn(2, 130, dtype=torch.bfloat16)
    with torch.no_grad():
        close(wrapped(x), reference(x, other.weight, other.bias))
    with pytest.raises(RuntimeError, match="size mismatch for weight"):
        wrapped.load_state_dict({**other.state_dict(), "weight": torch.zeros(2, 2)})
    with pytest.raises(RuntimeError, match="Missing key.*weight"):
        wrapped.load_state_dict({"bias": other.bias})


def test_discard_drops_the_source_at_the_first_materialization():
    layer = linear()
    wrapped = FP8Linear(layer, options=options(materialize_fp8_on_wrap=False))
    assert not wrapped.materialized and torch.equal(wrapped.weight, layer.weight)
    expected = FP8Linear(layer).dequantized_weight()
    source = weakref.ref(layer.weight)
    bias = layer.bias
    del layer
    x = torch.randn(2, 130, dtype=torch.bfloat16)
    with torch.no_grad():
        wrapped(x)
    gc.collect()
    assert source() is None and wrapped.materialized
    assert torch.equal(wrapped.dequantized_weight(), expected)
    assert sorted(wrapped.state_dict()) == ["bias"] and wrapped.bias is bias
    assert wrapped.weight.is_meta and wrapped.weight.shape == (70, 130) and wrapped.weight.dtype == torch.bfloat16


def test_discard_after_materialization_says_what_to_choose_instead():
    wrapped = FP8Linear(linear())
    wrapped.materialize_fp8_weight()  # there already
    wrapped.invalidate_weight_cache()
    for call in (lambda: wrapped(torch.zeros(1, 130)), wrapped.materialize_fp8_weight):
        with pytest.raises(RuntimeError, match="choose fp16_weight_storage='cpu_offload' or 'keep'"):
            call()
    elsewhere = FP8Linear(linear(), options=options(devices=("cpu",)))
    object.__setattr__(elsewhere, "options", options(devices=("cuda",)))
    elsewhere._direct = False
    with pytest.raises(RuntimeError, match="input on cpu needs the source weight.*cpu_offload"):
        elsewhere(torch.zeros(1, 130))


def test_discard_takes_a_new_source_from_a_state_dict():
    wrapped, other = FP8Linear(linear()), linear()
    wrapped.load_state_dict(other.state_dict())
    x = torch.randn(2, 130, dtype=torch.bfloat16)
    with torch.no_grad():
        close(wrapped(x), reference(x, other.weight, other.bias))
    wrapped.load_state_dict({"bias": other.bias})  # its own state_dict has no weight


@pytest.mark.parametrize("kind", STORAGES)
def test_a_weight_and_a_bias_can_be_given_anew(kind):
    wrapped, other = FP8Linear(linear(), options=stored(kind)), linear()
    wrapped.weight, wrapped.bias = other.weight, other.bias
    assert wrapped.bias is other.bias
    x = torch.randn(2, 130, dtype=torch.bfloat16)
    with torch.no_grad():
        close(wrapped(x), reference(x, other.weight, other.bias))
        wrapped.bias = None
        close(wrapped(x), reference(x, other.weight))
    assert wrapped.weight.is_meta == (kind == "discard")


@pytest.mark.parametrize("kind", STORAGES)
def test_weights_that_do_not_fit_are_refused_before_they_are_read(kind):
    wrapped = FP8Linear(linear(), options=stored(kind))
    x = torch.zeros(1, 130)
    for value, error, message in ((torch.zeros(5, 5), ValueError, r"expected a weight \(70, 130\), found \(5, 5\)"),
                                  (torch.zeros(70, 130, device="meta"), ValueError, "meta device"),
                                  (torch.zeros(70, 130, dtype=torch.int8), TypeError, "int8")):
        before = wrapped.weight
        with pytest.raises(error, match=message):
            wrapped.weight = nn.Parameter(value, requires_grad=False)
            wrapped(x)
        if kind == "keep":
            wrapped.weight = before
        assert wrapped(x).shape == (1, 70)
    with pytest.raises(TypeError):
        wrapped.weight = 3


def test_inputs_on_the_meta_device_use_the_source_weight():
    for kind in ("keep", "cpu_offload"):
        y = FP8Linear(linear(), options=stored(kind))(torch.zeros(2, 130, device="meta", dtype=torch.bfloat16))
        assert y.is_meta and y.shape == (2, 70) and y.dtype == torch.bfloat16
    with pytest.raises(RuntimeError, match="input on meta needs the source weight"):
        FP8Linear(linear())(torch.zeros(2, 130, device="meta"))


@pytest.mark.parametrize("kind", STORAGES)
def test_a_default_device_changes_neither_codes_nor_outputs(kind):
    layer, x = linear(), torch.randn(2, 130, dtype=torch.bfloat16)
    with torch.device("meta"), torch.no_grad():
        wrapped = FP8Linear(layer, options=stored(kind, materialize_fp8_on_wrap=False))
        for given in (x, x.double(), x[None], x.t().contiguous().t()):
            y = wrapped(given)
            assert y.is_cpu
            close(y, reference(given, layer.weight, layer.bias))
        assert wrapped.dequantized_weight().is_cpu


def test_devices_decide_where_the_fp8_multiply_runs():
    layer = linear()
    for storage in STORAGES:
        wrapped = FP8Linear(layer, options=options(devices=("cuda",), fp16_weight_storage=storage))
        assert not wrapped.materialized
        x = torch.randn(2, 130, dtype=torch.bfloat16)
        with torch.no_grad():
            assert torch.equal(wrapped(x), layer(x))
        with pytest.raises(ValueError, match="options allow cuda"):
            wrapped.materialize_fp8_weight("cpu")
    with pytest.raises(RuntimeError, match="no FP8 multiply for cuda"):
        wrapped.materialize_fp8_weight("cuda")


def test_fp8_buffers_are_not_in_the_state_dict():
    wrapped = FP8Linear(linear())
    assert {"weight_codes", "weight_scale"} <= dict(wrapped.named_buffers()).keys()
    assert not {"weight_codes", "weight_scale"} & wrapped.state_dict().keys()
    assert wrapped.weight_scale.shape == (1,)
    assert FP8Linear(linear(), options=options(weight_scale="channel")).weight_scale.shape == (70,)


@pytest.mark.parametrize("move", [lambda m: m.half(), lambda m: m.to(torch.float64), lambda m: m.float(),
                                  lambda m: m.to("cpu"), lambda m: m.type(torch.float16), lambda m: m.share_memory()])
@pytest.mark.parametrize("storage", STORAGES)
def test_casts_change_neither_codes_nor_scales(move, storage):
    wrapped = FP8Linear(linear(), options=stored(storage, weight_scale="channel"))
    codes, scale = wrapped.weight_codes.clone(), wrapped.weight_scale.clone()
    assert move(wrapped) is wrapped
    assert wrapped.weight_codes.dtype == torch.uint8 and wrapped.weight_scale.dtype == torch.float32
    assert torch.equal(wrapped.weight_codes, codes) and torch.equal(wrapped.weight_scale, scale)
    with torch.no_grad():
        wrapped(torch.zeros(1, 130))


def test_another_device_has_another_layout():
    wrapped = FP8Linear(linear()).to("meta")
    assert wrapped.weight_codes.is_meta and wrapped.weight_codes.shape == (70, 130)
    assert wrapped.weight_scale.is_meta


@pytest.mark.parametrize("storage", STORAGES)
def test_weights_made_in_inference_mode_work(storage):
    with torch.inference_mode():
        layer = linear()
        wrapped = FP8Linear(layer, options=stored(storage, materialize_fp8_on_wrap=False))
        x = torch.randn(2, 130, dtype=torch.bfloat16)
        expected = reference(x, layer.weight, layer.bias)
        close(wrapped(x), expected)
    close(wrapped(x.clone()), expected)
    assert not wrapped.weight_codes.is_inference()
