# SPDX-License-Identifier: Apache-2.0
"""FP8Linear: arithmetic, inputs of all kinds, gradients."""
import pytest

torch = pytest.importorskip("torch", reason="octet.torch needs PyTorch")
from torch import nn  # noqa: E402

from conftest import STORAGES, close, linear, options, quantized_weight, reference, stored  # noqa: E402
import octet.torch  # noqa: E402
from octet.torch import FP8GemmOptions, FP8Linear  # noqa: E402

# ---- options ----


def test_defaults_are_the_documented_ones():
    assert FP8GemmOptions() == FP8GemmOptions(True, True, "discard", True, ("cuda", "cpu"), "tensor", False)
    with pytest.raises(AttributeError):
        FP8GemmOptions().cast_inputs = False


@pytest.mark.parametrize("given, error, message", [
    ({"fp16_weight_storage": "drop"}, ValueError, "expected one of keep, cpu_offload, discard, found 'drop'"),
    ({"weight_scale": "block"}, ValueError, "expected one of tensor, channel"),
    ({"cast_inputs": False}, ValueError, "choose 'keep' or 'cpu_offload'"),
    ({"cast_inputs": 1}, TypeError, "expected a bool"), ({"devices": "cpu"}, TypeError, "expected a tuple")])
def test_bad_options_are_refused(given, error, message):
    with pytest.raises(error, match=message):
        FP8GemmOptions(**given)


# ---- arithmetic ----


@pytest.mark.parametrize("weight_scale", ["tensor", "channel"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("shape", [(64, 64), (70, 130), (1, 3), (129, 17)], ids=str)
def test_output_is_the_documented_arithmetic(dtype, weight_scale, shape):
    layer = linear(*shape, dtype=dtype)
    wrapped = FP8Linear(layer, options=options(weight_scale=weight_scale))
    assert torch.equal(wrapped.dequantized_weight(), quantized_weight(layer.weight, weight_scale))
    x = torch.randn(5, shape[1], dtype=dtype)
    with torch.no_grad():
        close(wrapped(x), reference(x, layer.weight, layer.bias, weight_scale))


def test_float32_weights_pass_through_bfloat16():
    layer = linear(dtype=torch.float32)
    layer.weight.data[0, 0] = 1.001  # 1.0 in bfloat16
    rounded = linear(dtype=torch.bfloat16)
    rounded.weight.data.copy_(layer.weight.data)
    assert torch.equal(FP8Linear(layer).dequantized_weight(), FP8Linear(rounded).dequantized_weight())


@pytest.mark.parametrize("weight_scale", ["tensor", "channel"])
def test_zero_weights_and_zero_rows_give_the_bias_exactly(weight_scale):
    layer = linear()
    x = torch.randn(3, 130, dtype=torch.bfloat16)
    x[1] = 0
    with torch.no_grad():
        y = FP8Linear(layer, options=options(weight_scale=weight_scale))(x)
        assert torch.equal(y[1], layer.bias)
        layer.weight.zero_()
        y = FP8Linear(layer, options=options(weight_scale=weight_scale))(x)
    assert torch.equal(y, layer.bias.expand_as(y))


@pytest.mark.parametrize("amax", [1e-38, 1e-30, 1e-7, 1e30])
@pytest.mark.parametrize("weight_scale", ["tensor", "channel"])
def test_weights_of_any_magnitude_have_finite_codes(amax, weight_scale):
    layer = linear(bias=False)
    layer.weight.data = torch.randn(70, 130).clamp(-1, 1).mul(amax).to(torch.bfloat16)
    layer.weight.data[0, 0] = amax
    found = FP8Linear(layer, options=options(weight_scale=weight_scale)).dequantized_weight()
    assert found.isfinite().all()
    if weight_scale == "tensor" or amax > 1e-6:
        assert (found - layer.weight.float()).abs().max() <= 0.04 * amax + 1e-44


def test_nan_and_infinity_stay_in_their_row():
    wrapped = FP8Linear(linear())
    x = torch.randn(4, 130, dtype=torch.bfloat16)
    with torch.no_grad():
        clean = wrapped(x)
        x[1, 5], x[2, 7] = float("nan"), float("inf")
        y = wrapped(x)
    assert torch.equal(y[0], clean[0]) and torch.equal(y[3], clean[3])
    assert y[1].isnan().all() and not y[2].isfinite().any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_a_row_does_not_depend_on_its_batch(dtype):
    wrapped = FP8Linear(linear(192, 256))
    x = torch.randn(150, 256, dtype=dtype)
    x[70, 3] = float("nan")
    with torch.no_grad():
        y = wrapped(x)
        for row in (17, 63, 64, 127, 128, 149):
            assert torch.equal(y[row], wrapped(x[row:row + 1])[0])
    assert y[70].isnan().all() and y.isnan().any(1).sum() == 1


def test_cast_output_back_decides_the_dtype():
    layer = linear()
    for dtype, kept in ((torch.float32, torch.bfloat16), (torch.float64, torch.bfloat16), (torch.float16, torch.float16),
                        (torch.bfloat16, torch.bfloat16)):
        x = torch.randn(2, 130, dtype=dtype)
        with torch.no_grad():
            assert FP8Linear(layer)(x).dtype == dtype
            y = FP8Linear(layer, options=options(cast_output_back=False))(x)
        assert y.dtype == kept
        close(y, reference(x, layer.weight, layer.bias, out_dtype=kept))


def test_without_cast_inputs_other_dtypes_use_the_source_weight():
    for storage in ("keep", "cpu_offload"):
        layer = linear()
        wrapped = FP8Linear(layer, options=options(cast_inputs=False, fp16_weight_storage=storage))
        x = torch.randn(2, 130)
        with torch.no_grad():
            expected = nn.functional.linear(x, layer.weight.float(), layer.bias.float())
            assert torch.equal(wrapped(x), expected)
            close(wrapped(x.bfloat16()), reference(x.bfloat16(), layer.weight, layer.bias))


@pytest.mark.parametrize("bias_dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64], ids=str)
def test_biases_of_any_dtype_are_cast_at_the_call(bias_dtype):
    layer = linear()
    layer.bias = nn.Parameter(torch.randn(70).to(bias_dtype))
    x = torch.randn(2, 130, dtype=torch.bfloat16)
    with torch.no_grad():
        close(FP8Linear(layer)(x), reference(x, layer.weight, layer.bias))


# ---- inputs ----


@pytest.mark.parametrize("lead", [(), (0,), (1,), (2, 0, 3), (2, 3, 4), (1, 1, 1, 5)], ids=str)
def test_any_leading_shape_and_zero_rows(lead):
    layer = linear()
    wrapped = FP8Linear(layer)
    for dtype in (torch.bfloat16, torch.float32):
        x = torch.randn(*lead, 130, dtype=dtype)
        with torch.no_grad():
            y = wrapped(x)
        assert y.shape == (*lead, 70) and y.dtype == dtype
        if y.numel():
            close(y, reference(x, layer.weight, layer.bias))
        assert wrapped(x.requires_grad_()).shape == (*lead, 70)


def test_inputs_that_are_not_contiguous():
    layer = linear()
    wrapped = FP8Linear(layer)
    base = torch.randn(8, 260, dtype=torch.bfloat16)
    for x in (base[:, :130], base[:, ::2], base[::3, 130:], base.t()[:130].t(), base[:1, :130].expand(5, 130),
              base[:, :130].reshape(2, 4, 130).transpose(0, 1)):
        with torch.no_grad():
            assert torch.equal(wrapped(x), wrapped(x.contiguous()))


@pytest.mark.parametrize("bias", [None, torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_tensors_looked_at_in_one_call_give_the_bits_of_those_taken_apart(monkeypatch, dtype, bias):
    kernels = octet.torch._kernels
    layer = linear(bias=bias is not None)
    if bias is not None:
        layer.bias = nn.Parameter(torch.randn(70).to(bias))
    layers = [FP8Linear(layer, options=options(**given))
              for given in ({}, {"cast_output_back": False}, {"weight_scale": "channel"})]
    inputs = [torch.randn(*lead, 130).to(dtype) for lead in ((), (1,), (40,), (2, 3), (1, 1, 5))]
    inputs.append(torch.randn(6, 260).to(dtype)[:, 130:])
    with torch.no_grad():
        found = [wrapped(x) for wrapped in layers for x in inputs]
        monkeypatch.setattr(kernels, "_runtime", None)
        monkeypatch.setattr(kernels, "_exchange", None)  # as with a torch that has no such table
        expected = [wrapped(x) for wrapped in layers for x in inputs]
    for y, right in zip(found, expected):
        assert y.dtype == right.dtype and torch.equal(y, right) and y.stride() == right.stride()


def test_outputs_are_tensors_like_any_other():
    wrapped = FP8Linear(linear())
    with torch.no_grad():
        y = wrapped(torch.randn(3, 130))
        again = y.clone()
        y.mul_(2)[1] = 0
    assert torch.equal(y[0], 2 * again[0]) and not y[1].any() and not y.requires_grad and y.data_ptr() % 64 == 0
    view = y[2].numpy()
    del y
    assert (view == 2 * again[2].numpy()).all()
    (again @ torch.randn(70, 2, requires_grad=True)).sum().backward()


def test_outputs_leave_no_memory_behind():
    from pathlib import Path

    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("no /proc")
    wrapped, x = FP8Linear(linear(1024, 64)), torch.randn(512, 64)  # y has 2 MiB

    def pages():
        return int(statm.read_text().split()[1])

    with torch.no_grad():
        for _ in range(5):
            wrapped(x)
        before = pages()
        for _ in range(50):
            wrapped(x)
    assert pages() - before < 4000  # of 25600


@pytest.mark.parametrize("make, error, message", [
    (lambda: torch.zeros(2, 129), ValueError, "in_features = 130, found 129"),
    (lambda: torch.tensor(1.0), ValueError, "in_features = 130"),
    (lambda: torch.zeros(2, 130, dtype=torch.int64), TypeError, "int64"),
    (lambda: torch.zeros(2, 130, dtype=torch.complex64), TypeError, "complex64"),
    (lambda: torch.zeros(2, 130, dtype=torch.bool), TypeError, "bool"),
    (lambda: torch.zeros(2, 130).to_sparse(), TypeError, "dense input"),
    (lambda: [1.0] * 130, TypeError, "expected a torch.Tensor, found list"), (lambda: None, TypeError, "NoneType")])
@pytest.mark.parametrize("storage", STORAGES)
def test_bad_inputs_have_one_clear_error(make, error, message, storage):
    wrapped = FP8Linear(linear(), options=stored(storage))
    with pytest.raises(error, match=message):
        wrapped(make())
    assert wrapped(torch.zeros(1, 130)).shape == (1, 70)


# ---- construction ----


def test_what_is_no_linear_is_a_type_error():
    class Other(nn.Linear):
        def forward(self, x):
            return x

    for wrong in (nn.Conv1d(2, 2, 1), None, nn.Linear, Other(3, 3),
                  torch.nn.utils.parametrizations.weight_norm(nn.Linear(3, 3))):
        with pytest.raises(TypeError, match="FP8Linear"):
            FP8Linear(wrong)
    with pytest.raises(TypeError, match="FP8GemmOptions"):
        FP8Linear(linear(), options={"cast_inputs": True})
    with pytest.raises(TypeError):
        FP8Linear(linear(), FP8GemmOptions())


@pytest.mark.parametrize("make, error, message", [
    (lambda: nn.Linear(3, 3, dtype=torch.complex64), TypeError, "complex64"),
    (lambda: nn.Linear(3, 3, device="meta"), ValueError, "meta device")])
def test_weights_without_an_fp8_form_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        FP8Linear(make())


@pytest.mark.parametrize("name, value, error, message", [
    ("weight", torch.zeros(3, 3, dtype=torch.int8), TypeError, "int8"),
    ("weight", torch.zeros(3), ValueError, "2 dimensions"), ("weight", torch.zeros(1, 3, 3), ValueError, "2 dimensions"),
    ("bias", torch.zeros(4), ValueError, "bias of out_features = 3 elements, found .4,."),
    ("bias", torch.zeros(1, 3), ValueError, "bias of out_features = 3"),
    ("bias", torch.zeros(3, dtype=torch.complex64), TypeError, "bias.*complex64"),
    ("bias", torch.zeros(3, dtype=torch.int32), TypeError, "bias.*int32")])
@pytest.mark.parametrize("kind", STORAGES)
def test_parameters_that_no_linear_multiplies_with_are_refused(name, value, error, message, kind):
    layer = nn.Linear(3, 3)
    setattr(layer, name, nn.Parameter(value, requires_grad=False))
    with pytest.raises(error, match=message):
        FP8Linear(layer, options=stored(kind))


@pytest.mark.parametrize("kind", STORAGES)
def test_a_bias_of_another_size_that_comes_later_is_refused_at_the_call(kind):
    wrapped = FP8Linear(linear(), options=stored(kind))
    wrapped.bias = nn.Parameter(torch.zeros(3))
    for x in (torch.zeros(1, 130), torch.zeros(1, 130, requires_grad=True), torch.zeros(1, 130, dtype=torch.float64)):
        with pytest.raises(ValueError, match="bias of out_features = 70 elements, found .3,."):
            wrapped(x)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_with_their_number(value):
    layer = linear()
    layer.weight.data[3, 4:6] = value
    with pytest.raises(ValueError, match="2 values that are NaN or infinite"):
        FP8Linear(layer)


@pytest.mark.parametrize("storage", STORAGES)
def test_from_linear_is_the_constructor_and_the_linear_is_untouched(storage):
    layer = linear()
    before = layer.weight.clone()
    wrapped = FP8Linear.from_linear(layer, options=stored(storage))
    assert torch.equal(layer.weight, before) and wrapped.materialized
    assert wrapped.bias is layer.bias and wrapped.in_features == 130 and wrapped.out_features == 70
    assert FP8Linear(linear(bias=False), options=stored(storage)).bias is None


@pytest.mark.parametrize("storage", STORAGES)
def test_hooks_and_the_training_flag_survive(storage):
    layer = linear().eval()
    calls = []
    handle = layer.register_forward_hook(lambda module, inputs, output: calls.append("after"))
    layer.register_forward_pre_hook(lambda module, inputs: calls.append("before"))
    wrapped = FP8Linear(layer, options=stored(storage))
    x = torch.zeros(1, 130)
    assert not wrapped.training
    wrapped(x)
    assert calls == ["before", "after"]
    handle.remove()
    wrapped(x)
    assert calls == ["before", "after", "before"]


# ---- gradients ----


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_the_gradient_of_the_input_is_that_of_the_fp8_weight(storage, dtype):
    layer = linear(dtype=dtype)
    wrapped = FP8Linear(layer, options=stored(storage))
    x = torch.randn(3, 4, 130, dtype=dtype, requires_grad=True)
    y = wrapped(x)
    g = torch.randn_like(y)
    y.backward(g)
    close(x.grad, (g.double() @ wrapped.dequantized_weight().double()).to(dtype))
    eps = 2e-2 if dtype == torch.bfloat16 else 1e-4
    assert torch.allclose(wrapped.bias.grad.double(), g.double().sum((0, 1)), rtol=eps, atol=eps)
    # Near the gradient of the layer that was wrapped.
    plain = (g.double() @ layer.weight.double())
    assert (x.grad.double() - plain).norm() < 0.05 * plain.norm()


def test_keep_gives_the_source_weight_its_gradient():
    wrapped = FP8Linear(linear(dtype=torch.float32), options=stored("keep"))
    x = torch.randn(6, 130)
    y = wrapped(x)
    g = torch.randn_like(y)
    y.backward(g)
    assert torch.allclose(wrapped.linear.weight.grad, g.t() @ x, rtol=1e-4, atol=1e-4)


def test_a_second_derivative_raises_instead_of_lying():
    wrapped = FP8Linear(linear(dtype=torch.float32))
    x = torch.randn(2, 130, requires_grad=True)
    (grad,) = torch.autograd.grad(wrapped(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable|does not require grad"):
        grad.sum().backward()


def test_gradients_survive_a_requantization_between_forward_and_backward():
    wrapped = FP8Linear(linear(dtype=torch.float32), options=stored("keep"))
    x = torch.randn(2, 130, requires_grad=True)
    seen = wrapped.dequantized_weight()
    y = wrapped(x)
    with torch.no_grad():
        wrapped.linear.weight.mul_(2)
        wrapped(x)
    y.sum().backward()
    close(x.grad, (torch.ones(2, 70).double() @ seen.double()).float())


@pytest.mark.parametrize("grad", [True, False])
def test_forward_mode_derivatives_raise_instead_of_vanishing(grad):
    import torch.autograd.forward_ad as forward_ad

    wrapped = FP8Linear(linear(dtype=torch.float32))
    x = torch.randn(2, 130)
    with torch.set_grad_enabled(grad), forward_ad.dual_level():
        with pytest.raises(NotImplementedError, match="jvp"):
            wrapped(forward_ad.make_dual(x, torch.ones_like(x)))
        assert wrapped(x).shape == (2, 70)


@pytest.mark.parametrize("transform", [torch.func.vmap, torch.func.jacrev, lambda f: torch.func.grad(lambda x: f(x).sum())],
                         ids=["vmap", "jacrev", "grad"])
def test_function_transforms_raise_instead_of_lying(transform):
    wrapped = FP8Linear(linear(dtype=torch.float32))
    with pytest.raises(RuntimeError, match="functorch|data pointer"):
        transform(wrapped)(torch.randn(2, 130))


def test_checkpoints_and_backward_hooks_see_the_gradients():
    from torch.utils.checkpoint import checkpoint

    layer = linear(dtype=torch.float32)
    seen = []
    layer.register_full_backward_hook(lambda module, inputs, outputs: seen.append(inputs[0]))
    wrapped = FP8Linear(layer)
    x, again = (torch.ones(2, 130, requires_grad=True) for _ in range(2))
    wrapped(x).sum().backward()
    checkpoint(wrapped, again, use_reentrant=False).sum().backward()
    assert torch.equal(x.grad, again.grad) and len(seen) == 2 and torch.equal(seen[0], x.grad)
