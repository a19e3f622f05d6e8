# SPDX-License-Identifier: Apache-2.0
"""What the tests of octet.torch share: plain models, and the arithmetic written out in torch."""
import pytest

torch = pytest.importorskip("torch", reason="octet.torch needs PyTorch")
from torch import nn  # noqa: E402

from octet.torch import FP8GemmOptions  # noqa: E402

STORAGES = ("keep", "cpu_offload", "discard")
FLOOR = 1 / (448 * 512)


@pytest.fixture(autouse=True)
def same_random_numbers():
    torch.manual_seed(0)


def linear(n=70, k=130, dtype=torch.bfloat16, bias=True):
    return nn.Linear(k, n, bias=bias, dtype=dtype)


def options(**given):
    return FP8GemmOptions(**given)


def stored(kind, **more):
    return FP8GemmOptions(fp16_weight_storage=kind, **more)


def quantized_weight(weight, weight_scale="tensor"):
    """scale * code of a weight [N, K] as float32, from a bfloat16 copy."""
    w = weight.detach().to(torch.bfloat16).float()
    if weight_scale == "tensor":
        scale = w.abs().max() / 448
        codes = w * (1 / scale)
    else:
        scale = (w.abs().amax(1, keepdim=True) / 448).clamp(min=FLOOR)
        codes = w / scale
    return codes.clamp(-448, 448).to(torch.float8_e4m3fn).float() * scale


def reference(x, weight, bias=None, weight_scale="tensor", out_dtype=None):
    """y = s_a s_w (codes of x) (codes of w)^T + bias, summed in float64, rounded once."""
    out_dtype = out_dtype or x.dtype
    x = (x if x.dtype in (torch.float16, torch.bfloat16) else x.to(torch.bfloat16)).detach().float()
    scale = (x.abs().amax(-1, keepdim=True) / 448).clamp(min=FLOOR)
    codes = (x / scale).clamp(-448, 448).to(torch.float8_e4m3fn).double()
    y = scale.double() * (codes @ quantized_weight(weight, weight_scale).double().t())
    return (y if bias is None else y + bias.detach().double()).to(out_dtype)


def close(found, expected):
    """Equal but for the order of float32 sums and one rounding to the dtype."""
    eps = {torch.bfloat16: 2.0**-7, torch.float16: 2.0**-10}.get(found.dtype, 2.0**-18)
    assert found.shape == expected.shape and found.dtype == expected.dtype
    limit = eps * expected.double().abs().max().clamp(min=1e-30)
    assert (found.detach().double() - expected.double()).abs().max() <= limit
