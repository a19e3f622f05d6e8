# SPDX-License-Identifier: Apache-2.0
"""FP8Experts: fused expert modules of transformers, wrapped, copied, saved, or left alone."""
import copy
import pickle

import pytest

torch = pytest.importorskip("torch", reason="octet.torch needs PyTorch")
from torch import nn  # noqa: E402

from conftest import STORAGES, options, stored, unchanged  # noqa: E402
from octet.torch import FP8Experts, FP8GemmOptions, enable_fp8_gemm, load_fp8, report, save_fp8  # noqa: E402


class Experts(nn.Module):
    def __init__(self, experts=4, hidden=32, inner=16):
        super().__init__()
        self.gate_up_proj = nn.Parameter(torch.randn(experts, 2 * inner, hidden) * 0.1)
        self.down_proj = nn.Parameter(torch.randn(experts, hidden, inner) * 0.1)
        self.act_fn = nn.SiLU()

    def forward(self, hidden_states, top_k_index, top_k_weights):
        result = torch.zeros_like(hidden_states)
        for token in range(hidden_states.shape[0]):
            for place in range(top_k_index.shape[1]):
                e = top_k_index[token, place]
                gate, up = (self.gate_up_proj[e] @ hidden_states[token]).chunk(2)
                result[token] += top_k_weights[token, place] * (self.down_proj[e] @ (self.act_fn(gate) * up))
        return result


@pytest.mark.parametrize("kind", STORAGES)
def test_fused_experts_are_wrapped_when_asked_for(kind):
    model = nn.ModuleDict({"router": nn.Linear(32, 4), "experts": Experts()})
    plain = copy.deepcopy(model)
    enable_fp8_gemm(model, options=stored(kind))
    assert isinstance(model["experts"], Experts)
    assert "experts is False" in report(model).left_alone[0].reason
    enable_fp8_gemm(model, options=stored(kind, experts=True))
    experts = model["experts"]
    assert isinstance(experts, FP8Experts) and experts.gate_up_proj_scale.shape == (4, 1)
    x, index = torch.randn(5, 32), torch.tensor([[0, 1], [1, 3], [3, 0], [1, 0], [0, 3]])
    weights = torch.rand(5, 2)
    with torch.no_grad():
        y, expected = experts(x, index, weights), plain["experts"](x, index, weights)
        assert (y - expected).norm() < 0.1 * expected.norm()
        for each in (copy.deepcopy(experts), pickle.loads(pickle.dumps(experts))):
            assert torch.equal(each(x, index, weights), y)
    x.requires_grad_()
    experts(x, index, weights).sum().backward()
    grad, x.grad = x.grad, None
    plain["experts"](x, index, weights).sum().backward()
    assert (grad - x.grad).norm() < 0.15 * x.grad.norm()
    entry = report(model).entries[1]
    assert entry.kind == "experts" and entry.wrapped


def test_experts_are_saved_and_loaded(tmp_path):
    pytest.importorskip("safetensors")
    model = enable_fp8_gemm(nn.ModuleDict({"experts": Experts()}), options=FP8GemmOptions(experts=True))
    save_fp8(model, tmp_path)
    other = load_fp8(nn.ModuleDict({"experts": Experts()}), tmp_path)
    for name in ("gate_up_proj", "down_proj"):
        assert torch.equal(other["experts"].dequantized_weight(name), model["experts"].dequantized_weight(name))


def test_expert_modules_of_another_build_are_left_alone():
    transposed = Experts()
    transposed.down_proj = nn.Parameter(torch.randn(4, 16, 32))
    biased = Experts()
    biased.down_proj_bias = nn.Parameter(torch.zeros(4, 32))
    other = Experts()
    other.forward = lambda x: x
    model = nn.ModuleList([transposed, biased, other])
    enable_fp8_gemm(model, options=FP8GemmOptions(experts=True))
    reasons = [entry.reason for entry in report(model).left_alone]
    assert "lie otherwise" in reasons[0] and "other parameters" in reasons[1] and "forward of its own" in reasons[2]
    with pytest.raises(TypeError, match="lie otherwise"):
        FP8Experts(transposed)
    with pytest.raises(TypeError, match="3-D parameters"):
        FP8Experts(nn.Linear(3, 3))


@pytest.mark.parametrize("back, dtype", [(True, torch.float32), (False, torch.bfloat16)])
def test_cast_output_back_decides_the_dtype(back, dtype):
    experts = FP8Experts(Experts(), options=options(cast_output_back=back))
    index, weights = torch.tensor([[0, 1]]), torch.rand(1, 2)
    assert experts(torch.randn(1, 32), index, weights).dtype == dtype
    assert experts(torch.randn(1, 32, dtype=torch.float16), index, weights.half()).dtype == torch.float16


@pytest.mark.parametrize("change, error, message", [
    (lambda e: e.to("meta"), ValueError, "gate_up_proj: its weight is on the meta device"),
    (lambda e: e.to(torch.complex64), TypeError, "gate_up_proj: expected a weight in float16")])
def test_weights_without_an_fp8_form_leave_the_model_as_it_was(change, error, message):
    model = nn.ModuleDict({"first": nn.Linear(4, 4), "experts": change(Experts())})
    unchanged(model, lambda: enable_fp8_gemm(model, options=FP8GemmOptions(experts=True)), error, message)
