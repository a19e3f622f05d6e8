# SPDX-License-Identifier: Apache-2.0
"""What the tests of octet.torch share: plain models, and the arithmetic written out in torch."""
import pytest

torch = pytest.importorskip("torch", reason="octet.torch needs PyTorch")
from torch import nn  # noqa: E402
from torch.nn.parameter import is_lazy  # noqa: E402

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


class Block(nn.Module):
    def __init__(self, size=32):
        super().__init__()
        self.up = nn.Linear(size, 2 * size)
        self.down = nn.Linear(2 * size, size, bias=False)

    def forward(self, x):
        return x + self.down(torch.relu(self.up(x)))


class Model(nn.Module):
    def __init__(self, size=32):
        super().__init__()
        self.blocks = nn.ModuleList([Block(size), Block(size)])
        self.norm = nn.LayerNorm(size)
        self.head = nn.Linear(size, 7)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def unchanged(model, call, error, message):
    before = dict(model.named_modules()), {key: value.clone() for key, value in model.state_dict().items()
                                           if not is_lazy(value) and not value.is_meta}
    with pytest.raises(error, match=message):
        call()
    after = dict(model.named_modules())
    assert after.keys() == before[0].keys() and all(after[key] is before[0][key] for key in after)
    state = model.state_dict()
    assert all(torch.equal(state[key], value) for key, value in before[1].items())
