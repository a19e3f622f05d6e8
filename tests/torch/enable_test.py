# SPDX-License-Identifier: Apache-2.0
"""enable_fp8_gemm, report, copies, pickles, compiled graphs."""
import copy
import gc
import io
import pickle
import weakref

import pytest

torch = pytest.importorskip("torch", reason="octet.torch needs PyTorch")
from torch import nn  # noqa: E402

import octet.torch  # noqa: E402
from conftest import STORAGES, Model, close, reference, stored, unchanged  # noqa: E402
from octet.torch import FP8GemmOptions, FP8Linear, enable_fp8_gemm, report  # noqa: E402


NAMES = ["blocks.0.up", "blocks.0.down", "blocks.1.up", "blocks.1.down", "head"]


def wrapped_names(model):
    return [name for name, module in model.named_modules() if isinstance(module, FP8Linear)]


def near(model, plain, x):
    with torch.no_grad():
        y, expected = model(x), plain(x)
    assert (y - expected).norm() < 0.1 * expected.norm()


# ---- wrapping ----


def test_every_linear_is_wrapped_in_place():
    model = Model()
    plain, x = copy.deepcopy(model), torch.randn(3, 32)
    assert enable_fp8_gemm(model) is model
    assert wrapped_names(model) == NAMES and isinstance(model.norm, nn.LayerNorm)
    near(model, plain, x)


def test_inplace_false_leaves_the_original_untouched():
    model = Model()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    copied = enable_fp8_gemm(model, inplace=False, module_filter=lambda name, module: module is not model.head)
    assert copied is not model and wrapped_names(model) == [] and wrapped_names(copied) == NAMES[:-1]
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_the_filter_is_asked_once_for_each_linear_with_its_first_name():
    model = Model()
    model.again = model.blocks[0].up
    model.attention = nn.MultiheadAttention(8, 2)
    asked = []
    enable_fp8_gemm(model, module_filter=lambda name, module: asked.append((name, module)) or name != "head")
    assert [name for name, _ in asked] == NAMES + ["attention.out_proj"]
    assert asked[0][1] is not None and all(isinstance(module, nn.Linear) for _, module in asked)
    assert wrapped_names(model) == NAMES[:-1]


def test_a_root_that_is_a_linear_is_wrapped_and_returned():
    root = nn.Linear(8, 8)
    asked = []
    wrapper = enable_fp8_gemm(root, module_filter=lambda name, module: asked.append(name) or True)
    assert isinstance(wrapper, FP8Linear) and asked == [""] and root.weight.shape == (8, 8)
    assert enable_fp8_gemm(wrapper) is wrapper
    assert enable_fp8_gemm(root, module_filter=lambda name, module: False) is root


def test_wrapping_twice_changes_nothing():
    model = enable_fp8_gemm(Model())
    modules = dict(model.named_modules())
    asked = []
    assert enable_fp8_gemm(model, module_filter=lambda *_: asked.append(1) or True) is model
    after = dict(model.named_modules())
    assert after.keys() == modules.keys() and all(after[name] is modules[name] for name in modules) and not asked


def test_no_descent_into_what_is_wrapped():
    model = enable_fp8_gemm(Model(), options=stored("keep"))
    enable_fp8_gemm(model, options=stored("keep"))
    assert wrapped_names(model) == NAMES and type(model.head.linear) is nn.Linear


def test_what_was_left_out_can_be_wrapped_later():
    model = enable_fp8_gemm(Model(), module_filter=lambda name, module: name == "head")
    assert report(model).left_alone[0].reason == "left out by module_filter"
    enable_fp8_gemm(model)
    assert wrapped_names(model) == NAMES and not report(model).left_alone


@pytest.mark.parametrize("kind", STORAGES)
def test_a_module_under_two_names_stays_one(kind):
    model = Model()
    model.other = nn.ModuleDict({"again": model.head})
    model.blocks.append(model.blocks[0])
    enable_fp8_gemm(model, options=stored(kind))
    assert model.other["again"] is model.head and isinstance(model.head, FP8Linear)
    assert model.blocks[2].up is model.blocks[0].up


@pytest.mark.parametrize("kind", STORAGES)
@pytest.mark.parametrize("now", [True, False])
def test_linears_that_share_a_weight_share_the_fp8_weight(kind, now):
    model = nn.ModuleList([nn.Linear(32, 32), nn.Linear(32, 32)])
    model[1].weight = model[0].weight
    enable_fp8_gemm(model, options=stored(kind, materialize_fp8_on_wrap=now))
    for module in model:
        module(torch.zeros(1, 32))
    assert model[0].weight_codes is model[1].weight_codes and model[0].bias is not model[1].bias
    copied = pickle.loads(pickle.dumps(copy.deepcopy(model)))
    for each in (model.half(), copied, copied.to("meta")):
        assert each[0].weight_codes is each[1].weight_codes and each[0].weight_scale is each[1].weight_scale
    if kind == "keep":
        with torch.no_grad():
            model[0].linear.weight.mul_(2)
            for module in model:
                module(torch.zeros(1, 32))
        assert model[0].weight_codes is model[1].weight_codes


def test_a_head_tied_to_an_embedding_is_wrapped_and_listed_as_tied():
    model = nn.ModuleDict({"embed": nn.Embedding(64, 32), "head": nn.Linear(32, 64, bias=False)})
    model["head"].weight = model["embed"].weight
    enable_fp8_gemm(model)
    entry = report(model).entries[0]
    assert entry.wrapped and entry.tied_with == "embed" and "tied" in entry.reason
    assert report(model).bytes_16bit == 0 and model["embed"].weight.shape == (64, 32)


def test_layers_whose_parents_read_the_weight_keep_working_and_are_listed():
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(16, 16), nn.TransformerEncoderLayer(16, 2, 32, batch_first=True),
                          nn.MultiheadAttention(16, 2)).eval()
    plain = copy.deepcopy(model)
    enable_fp8_gemm(model)
    assert wrapped_names(model) == ["0"]
    x = torch.randn(2, 3, 16)
    with torch.no_grad():
        assert torch.equal(model[1](x), plain[1](x)) and torch.equal(model[2](x, x, x)[0], plain[2](x, x, x)[0])
    reasons = {entry.name: entry.reason for entry in report(model).left_alone}
    assert "fast path" in reasons["1.linear1"] and "MultiheadAttention" in reasons["2.out_proj"]
    assert "MultiheadAttention" in reasons["1.self_attn.out_proj"]


def test_layers_with_an_arithmetic_of_their_own_are_left_alone():
    class Scaled(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    model = nn.Sequential(nn.Linear(4, 4), Scaled(4, 4), nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)),
                          nn.Linear(0, 3), nn.Linear(4, 4))
    model[4].weight.data[0, 0] = float("nan")
    enable_fp8_gemm(model)
    assert wrapped_names(model) == ["0"]
    reasons = [entry.reason for entry in report(model).left_alone]
    assert "forward of its own" in reasons[0] and "forward of its own" in reasons[1] or "computed" in reasons[1]
    assert "no elements" in reasons[2] and "NaN" in reasons[3]
    assert model[4](torch.zeros(1, 4)).shape == (1, 4)


# ---- bad input ----


def test_a_filter_that_raises_leaves_the_model_as_it_was():
    def fail(name, module):
        if name == "head":
            raise KeyError("mine")
        return True

    model = Model()
    unchanged(model, lambda: enable_fp8_gemm(model, module_filter=fail), KeyError, "mine")
    unchanged(model, lambda: enable_fp8_gemm(model, module_filter=fail, inplace=False), KeyError, "mine")


@pytest.mark.parametrize("change, error, message", [
    (lambda m: setattr(m, "head", nn.Linear(4, 4, device="meta")), ValueError, "head: its weight is on the meta device"),
    (lambda m: setattr(m, "head", nn.Linear(4, 4, dtype=torch.complex64)), TypeError, "head: expected a weight in"),
    (lambda m: setattr(m.head, "weight", nn.Parameter(torch.zeros(7, 32, dtype=torch.int8), requires_grad=False)),
     TypeError, "head.*int8"),
    (lambda m: setattr(m, "head", nn.LazyLinear(7)), ValueError, "head: its weight has no shape yet"),
    (lambda m: setattr(m.head, "weight", nn.Parameter(torch.zeros(32))), ValueError, "head: expected a weight of 2 dim"),
    (lambda m: setattr(m.head, "bias", nn.Parameter(torch.zeros(32))), ValueError, "head: expected a bias of out_f")])
def test_weights_without_an_fp8_form_leave_the_model_as_it_was(change, error, message):
    model = Model()
    change(model)
    unchanged(model, lambda: enable_fp8_gemm(model), error, message)


def test_arguments_of_a_wrong_type_are_type_errors():
    model = Model()
    for call in (lambda: enable_fp8_gemm(None), lambda: enable_fp8_gemm(model, options="keep"),
                 lambda: enable_fp8_gemm(model, module_filter="head"), lambda: enable_fp8_gemm(model, inplace=1),
                 lambda: enable_fp8_gemm(model, FP8GemmOptions()), lambda: report(None)):
        with pytest.raises(TypeError):
            call()
    assert wrapped_names(model) == []


@pytest.mark.parametrize("model", [nn.Sequential(), nn.Conv1d(2, 2, 1), nn.Embedding(3, 3)], ids=str)
def test_a_model_without_linears_is_a_value_error(model):
    with pytest.raises(ValueError, match="has no nn.Linear"):
        enable_fp8_gemm(model)


# ---- memory ----


def test_discard_halves_the_wrapped_weights_and_frees_the_16_bit_ones():
    model = Model(256).to(torch.bfloat16)
    alive = [weakref.ref(parameter) for name, parameter in model.named_parameters() if name == "blocks.0.up.weight"]
    enable_fp8_gemm(model)
    gc.collect()
    assert alive[0]() is None
    found = report(model)
    assert found.bytes_16bit == 2 * (4 * 2 * 256 * 256 + 7 * 256)
    blocks = [entry for entry in found.entries if entry.name != "head"]  # 7 rows are padded to 64
    assert sum(e.bytes for e in blocks) <= 0.52 * sum(e.bytes_16bit for e in blocks)
    assert "wrapped and untied" in str(found) and "blocks.1.down" in str(found)


def test_while_wrapping_no_more_than_one_layer_is_held_twice():
    model = nn.Sequential(*[nn.Linear(512, 512, bias=False, dtype=torch.bfloat16) for _ in range(6)])
    alive = [weakref.ref(layer.weight) for layer in model]
    at_each = []
    real = octet.torch._kernels.quantize

    def watching(source, weight_scale):
        gc.collect()
        at_each.append(sum(reference() is not None for reference in alive))
        return real(source, weight_scale)

    octet.torch._kernels.quantize = watching
    try:
        enable_fp8_gemm(model)
    finally:
        octet.torch._kernels.quantize = real
    assert at_each == [6, 5, 4, 3, 2, 1]


def test_report_counts_what_keep_and_offload_hold():
    for kind, share in (("keep", 1.5), ("cpu_offload", 1.5), ("discard", 0.5)):
        found = report(enable_fp8_gemm(nn.Sequential(nn.Linear(256, 256, dtype=torch.bfloat16)), options=stored(kind)))
        assert abs(found.bytes / found.bytes_16bit - share) < 0.01


# ---- copies, pickles, files ----


@pytest.mark.parametrize("kind", STORAGES)
@pytest.mark.parametrize("now", [True, False])
def test_deepcopy_and_pickle_work_in_every_state(kind, now):
    model = enable_fp8_gemm(Model(), options=stored(kind, materialize_fp8_on_wrap=now))
    x = torch.randn(2, 32)
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model)), torch.load(buffer, weights_only=False)]
    with torch.no_grad():
        expected = model(x)
        for each in copies:
            assert torch.equal(each(x), expected)
            assert each.head.weight_codes.data_ptr() != model.head.weight_codes.data_ptr()
            assert each.head.options == model.head.options


def test_deepcopy_honours_its_memo():
    layer = FP8Linear(nn.Linear(8, 8))
    pair = copy.deepcopy([layer, layer])
    assert pair[0] is pair[1] is not layer
    memo = {id(layer): "known"}
    assert copy.deepcopy(layer, memo) == "known"


def test_a_kept_copy_follows_its_own_weight():
    layer = FP8Linear(nn.Linear(32, 8), options=stored("keep"))
    other = copy.deepcopy(layer)
    codes = layer.weight_codes
    x = torch.randn(2, 32)
    with torch.no_grad():
        other.linear.weight.mul_(5)
        close(other(x), reference(x, other.linear.weight, other.bias))
        layer(x)
    assert layer.weight_codes is codes
    with torch.no_grad():
        layer.linear.weight.mul_(3)  # changed and not yet quantized again when it is copied
        stale = pickle.loads(pickle.dumps(layer))
        close(stale(x), reference(x, layer.linear.weight, layer.bias))


@pytest.mark.parametrize("kind", STORAGES)
def test_state_dicts_round_trip(kind):
    model, other = (enable_fp8_gemm(Model(), options=stored(kind)) for _ in range(2))
    other.load_state_dict(model.state_dict())
    if kind != "discard":  # whose state_dict has no weights
        x = torch.randn(2, 32)
        with torch.no_grad():
            assert torch.equal(other(x), model(x))


# ---- compiled graphs ----


@pytest.mark.parametrize("kind", STORAGES)
def test_torch_compile_takes_the_whole_graph(kind):
    model = enable_fp8_gemm(Model(), options=stored(kind))
    x = torch.randn(3, 32)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        assert torch.equal(compiled(x), model(x))
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    compiled(a).square().sum().backward()
    model(b).square().sum().backward()
    assert torch.allclose(a.grad, b.grad, rtol=1e-4, atol=1e-5)
    if kind == "keep":
        with torch.no_grad():
            model.head.linear.weight.mul_(-2)
            y = compiled(x)
            assert torch.equal(y, model(x))


def test_torch_compile_before_materialization_works():
    model = enable_fp8_gemm(Model(), options=FP8GemmOptions(materialize_fp8_on_wrap=False))
    x = torch.randn(3, 32)
    with torch.no_grad():
        y = torch.compile(model, backend="aot_eager")(x)
        assert torch.equal(y, model(x))


def test_torch_export_holds_the_operation():
    model = enable_fp8_gemm(Model()).eval()
    x = torch.randn(3, 32)
    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(model, (x,), dynamic_shapes=({0: batch},))
    assert sum("fp8_linear" in str(node.target) for node in program.graph.nodes) == 5
    with torch.no_grad():
        assert torch.equal(program.module()(x), model(x))
        longer = torch.randn(9, 32)
        assert torch.equal(program.module()(longer), model(longer))
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    with torch.no_grad():
        assert torch.equal(torch.export.load(file).module()(x), model(x))
    late = enable_fp8_gemm(Model(), options=FP8GemmOptions(materialize_fp8_on_wrap=False))
    with pytest.raises(Exception, match="materialize_fp8_weight"):
        torch.export.export(late, (x,))


@pytest.mark.parametrize("change, error, message", [
    ({"codes": torch.zeros(1, 2, 64, 4, dtype=torch.uint8)}, ValueError, "expected codes uint8"),
    ({"codes": torch.zeros(1, 4, 64, 4)}, ValueError, "expected codes uint8"),
    ({"scale": torch.ones(3)}, ValueError, "expected one float32 scale or 8"),
    ({"bias": torch.zeros(3)}, ValueError, "bias of out_features = 8"), ({"out_features": 80}, ValueError, "expected codes"),
    ({"x": torch.zeros(3, 16, dtype=torch.int64)}, TypeError, "int64"), ({"x": torch.tensor(1.0)}, ValueError, "scalar"),
    ({"out_dtype": torch.int8}, TypeError, "int8")])
def test_the_operation_refuses_what_does_not_fit_together(change, error, message):
    layer = FP8Linear(nn.Linear(16, 8))
    given = {"x": torch.zeros(3, 16), "codes": layer.weight_codes, "scale": layer.weight_scale, "bias": None,
             "weight": None, "version": None, "out_features": 8, "out_dtype": torch.float32}
    with pytest.raises(error, match=message):
        torch.ops.octet.fp8_linear(**{**given, **change})


def test_the_operation_passes_torchs_own_checks():
    layer = FP8Linear(nn.Linear(16, 8))
    x = torch.randn(3, 16, requires_grad=True)
    torch.library.opcheck(torch.ops.octet.fp8_linear.default,
                          (x, layer.weight_codes, layer.weight_scale, layer.bias, None, None, 8, torch.float32))
