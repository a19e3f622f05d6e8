# SPDX-License-Identifier: Apache-2.0
"""The names of the command line's options and what they stand for in the library."""
from __future__ import annotations

import os
import pathlib
import re
from typing import Any, Mapping, Optional, Union

from ._octet import (ActivationScheme, CpuIsa, DType, Granularity, LlmOptions, LoadFormat, NumericsProfile)

_QUANTIZATION = {"none": None, "fp8": Granularity.CHANNEL, "fp8_per_tensor": Granularity.TENSOR,
                 "fp8_per_channel": Granularity.CHANNEL, "fp8_per_block": Granularity.BLOCK}
_DTYPE = {"auto": None, "float32": DType.F32, "bfloat16": DType.BF16, "float16": DType.F16}
_CHOICES: Mapping[str, Mapping[str, Any]] = {
    "quantization": _QUANTIZATION,
    "fp8_format": {"e4m3": DType.F8_E4M3, "e5m2": DType.F8_E5M2},
    "numerics": {"vllm": NumericsProfile.VLLM, "compressed-tensors": NumericsProfile.COMPRESSED_TENSORS},
    "activation_scheme": {"auto": ActivationScheme.AUTO, "none": ActivationScheme.NONE,
                          "dynamic": ActivationScheme.DYNAMIC, "static": ActivationScheme.STATIC},
    "dtype": _DTYPE,
    "page_cache": {"auto": None, "keep": False, "bypass": True},
    "load_format": {"auto": LoadFormat.AUTO, "dummy": LoadFormat.DUMMY},
    "isa": {"auto": None, "portable": CpuIsa.PORTABLE, "avx2": CpuIsa.AVX2, "avx512": CpuIsa.AVX512,
            "avx512_bf16": CpuIsa.AVX512_BF16, "amx_bf16": CpuIsa.AMX_BF16},
    "kv_cache_dtype": {**_DTYPE, "fp8": DType.F8_E4M3, "fp8_e4m3": DType.F8_E4M3, "fp8_e5m2": DType.F8_E5M2},
}
_FLAGS = ("raw_cast", "fp8_lm_head", "fp8_embedding", "allow_nonfinite")
_INTEGERS = {"threads": (1, 1024), "max_model_len": (1, 2**31 - 1), "max_num_seqs": (1, 65536)}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(iB|B|)", re.IGNORECASE)


def check_integer(name: str, value: Any, low: int, high: int) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name}: expected an integer, found {value!r}")
    if not low <= value.__index__() <= high:
        raise ValueError(f"{name}: expected {low} to {high}, found {value}")
    return value.__index__()


def check_number(name: str, value: Any, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name}: expected a number, found {value!r}")
    if not low <= value <= high:  # NaN is in no range
        raise ValueError(f"{name}: expected {low} to {high}, found {value}")
    return float(value)


def parse_size(name: str, value: Union[int, str]) -> int:
    """Bytes from 2**31, "2GiB" or "512M": K, M, G, T are powers of 1024 with or without iB, of 1000 with B."""
    if not isinstance(value, str):
        return check_integer(name, value, 1, 2**62)
    match = _SIZE.fullmatch(value.strip())
    if match is None:
        raise ValueError(f"{name}: expected a size such as '2GiB', '512M' or 1000000, found {value!r}")
    number, unit, kind = match.groups()
    base = 1000 if unit and kind.upper() == "B" else 1024
    return check_integer(name, int(float(number) * base ** " KMGT".index(unit.upper() or " ")), 1, 2**62)


def llm_options(given: Mapping[str, Any]) -> LlmOptions:
    """The library's options from those of `LLM`; None stands for the default."""
    options = LlmOptions()
    for name, value in given.items():
        if value is None:
            continue
        if name in _CHOICES:
            table = _CHOICES[name]
            if not isinstance(value, str) or value not in table:
                raise ValueError(f"{name}: expected one of {', '.join(table)}, found {value!r}")
            value = table[value]
        elif name in _FLAGS:
            if not isinstance(value, bool):
                raise TypeError(f"{name}: expected a bool, found {value!r}")
        elif name in _INTEGERS:
            value = check_integer(name, value, *_INTEGERS[name])
        elif name == "kv_cache_memory":
            value = parse_size(name, value)
        elif name == "ignore":
            if isinstance(value, str) or not all(isinstance(pattern, str) for pattern in value):
                raise TypeError(f"ignore: expected a list of patterns, found {value!r}")
            value = list(value)
        elif not isinstance(value, str):
            raise TypeError(f"{name}: expected a str, found {value!r}")
        setattr(options, name, value)
    return options


def hub_cache() -> pathlib.Path:
    """Where the Hugging Face cache is, as huggingface_hub finds it."""
    environment = os.environ
    for variable, tail in (("HF_HUB_CACHE", ""), ("HF_HOME", "hub"), ("XDG_CACHE_HOME", "huggingface/hub")):
        if environment.get(variable):
            return pathlib.Path(environment[variable]) / tail
    home: Optional[str] = environment.get("HOME")
    return pathlib.Path(home) / ".cache/huggingface/hub" if home else pathlib.Path()
