# SPDX-License-Identifier: Apache-2.0
# Written by nanobind.stubgen from the extension: python3 -m nanobind.stubgen -m octet._octet -o python/octet/_octet.pyi
from collections.abc import Sequence
import enum
import os
import pathlib
from typing import Annotated

import numpy
from numpy.typing import NDArray


class Error(Exception):
    pass

class FormatError(Error, ValueError):
    pass

class ConfigError(Error, ValueError):
    pass

class ArgumentError(Error, ValueError):
    pass

class DeviceError(Error, RuntimeError):
    pass

class OutOfMemoryError(DeviceError, MemoryError):
    pass

class Interrupted(Error, RuntimeError):
    pass

class DType(enum.Enum):
    F32 = 1

    F16 = 2

    BF16 = 3

    F8_E4M3 = 4

    F8_E5M2 = 5

class Granularity(enum.Enum):
    TENSOR = 0

    CHANNEL = 1

    BLOCK = 2

class NumericsProfile(enum.Enum):
    VLLM = 0

    COMPRESSED_TENSORS = 1

class ActivationScheme(enum.Enum):
    AUTO = 0

    NONE = 1

    DYNAMIC = 2

    STATIC = 3

class LoadFormat(enum.Enum):
    AUTO = 0

    DUMMY = 1

class CpuIsa(enum.Enum):
    PORTABLE = 0

    AVX2 = 1

    AVX512 = 2

    AVX512_BF16 = 3
    AMX_BF16 = 4

class Fp8WeightScale(enum.Enum):
    TENSOR = 0

    CHANNEL = 1

class LlmOptions:
    def __init__(self) -> None: ...

    @property
    def quantization(self) -> Granularity | None: ...

    @quantization.setter
    def quantization(self, value: Granularity | None) -> None: ...

    @property
    def fp8_format(self) -> DType: ...

    @fp8_format.setter
    def fp8_format(self, value: DType | None) -> None: ...

    @property
    def raw_cast(self) -> bool: ...

    @raw_cast.setter
    def raw_cast(self, value: bool | None) -> None: ...

    @property
    def fp8_lm_head(self) -> bool: ...

    @fp8_lm_head.setter
    def fp8_lm_head(self, value: bool | None) -> None: ...

    @property
    def fp8_embedding(self) -> bool: ...

    @fp8_embedding.setter
    def fp8_embedding(self, value: bool | None) -> None: ...

    @property
    def ignore(self) -> list[str]: ...

    @ignore.setter
    def ignore(self, value: Sequence[str] | None) -> None: ...

    @property
    def numerics(self) -> NumericsProfile: ...

    @numerics.setter
    def numerics(self, value: NumericsProfile | None) -> None: ...

    @property
    def activation_scheme(self) -> ActivationScheme: ...

    @activation_scheme.setter
    def activation_scheme(self, value: ActivationScheme | None) -> None: ...

    @property
    def dtype(self) -> DType | None: ...

    @dtype.setter
    def dtype(self, value: DType | None) -> None: ...

    @property
    def load_format(self) -> LoadFormat: ...

    @load_format.setter
    def load_format(self, value: LoadFormat | None) -> None: ...

    @property
    def page_cache(self) -> bool | None: ...

    @page_cache.setter
    def page_cache(self, value: bool | None) -> None: ...

    @property
    def allow_nonfinite(self) -> bool: ...

    @allow_nonfinite.setter
    def allow_nonfinite(self, value: bool | None) -> None: ...

    @property
    def device(self) -> str: ...

    @device.setter
    def device(self, value: str | None) -> None: ...

    @property
    def threads(self) -> int: ...

    @threads.setter
    def threads(self, value: int | None) -> None: ...

    @property
    def isa(self) -> CpuIsa | None: ...

    @isa.setter
    def isa(self, value: CpuIsa | None) -> None: ...

    @property
    def kv_cache_dtype(self) -> DType | None: ...

    @kv_cache_dtype.setter
    def kv_cache_dtype(self, value: DType | None) -> None: ...

    @property
    def kv_cache_memory(self) -> int | None: ...

    @kv_cache_memory.setter
    def kv_cache_memory(self, value: int | None) -> None: ...

    @property
    def max_model_len(self) -> int | None: ...

    @max_model_len.setter
    def max_model_len(self, value: int | None) -> None: ...

    @property
    def max_num_seqs(self) -> int: ...

    @max_num_seqs.setter
    def max_num_seqs(self, value: int | None) -> None: ...

class LoadProgress:
    @property
    def bytes_read(self) -> int: ...

    @property
    def bytes_total(self) -> int: ...

    @property
    def memory_bytes(self) -> int: ...

    @property
    def planned_peak_bytes(self) -> int: ...

class SamplingParams:
    def __init__(self) -> None: ...

    @property
    def temperature(self) -> float: ...

    @temperature.setter
    def temperature(self, arg: float, /) -> None: ...

    @property
    def top_k(self) -> int: ...

    @top_k.setter
    def top_k(self, arg: int, /) -> None: ...

    @property
    def top_p(self) -> float: ...

    @top_p.setter
    def top_p(self, arg: float, /) -> None: ...

    @property
    def min_p(self) -> float: ...

    @min_p.setter
    def min_p(self, arg: float, /) -> None: ...

    @property
    def seed(self) -> int: ...

    @seed.setter
    def seed(self, arg: int, /) -> None: ...

    @property
    def max_tokens(self) -> int: ...

    @max_tokens.setter
    def max_tokens(self, arg: int, /) -> None: ...

    @property
    def ignore_eos(self) -> bool: ...

    @ignore_eos.setter
    def ignore_eos(self, arg: bool, /) -> None: ...

    @property
    def stop_token_ids(self) -> list[int]: ...

    @stop_token_ids.setter
    def stop_token_ids(self, arg: Sequence[int], /) -> None: ...

class GenerateOptions:
    def __init__(self) -> None: ...

    @property
    def sampling(self) -> SamplingParams: ...

    @sampling.setter
    def sampling(self, arg: SamplingParams, /) -> None: ...

    @property
    def stop(self) -> list[str]: ...

    @stop.setter
    def stop(self, arg: Sequence[str], /) -> None: ...

class Generation:
    @property
    def prompt_ids(self) -> list[int]: ...

    @property
    def ids(self) -> list[int]: ...

    @property
    def text(self) -> str: ...

    @property
    def finish_reason(self) -> str: ...

    @property
    def prefill_seconds(self) -> float: ...

    @property
    def decode_seconds(self) -> float: ...

class Llm:
    def recommended_sampling(self) -> SamplingParams: ...

    def encode(self, arg: str, /) -> list[int]: ...

    def encode_chat(self, arg: str, /) -> list[int]: ...

    def decode(self, arg0: Sequence[int], arg1: bool, /) -> str: ...

    def generate(self, prompts: Sequence[Sequence[int]], options: GenerateOptions, on_text: object | None) -> list[Generation]: ...

    def logits(self, arg: Sequence[int], /) -> Annotated[NDArray[numpy.float32], dict(shape=(None, None))]: ...

    def memory(self) -> dict: ...

    def load_report_json(self) -> str: ...

    @property
    def has_tokenizer(self) -> bool: ...

    @property
    def has_chat_template(self) -> bool: ...

    @property
    def vocab_size(self) -> int: ...

    @property
    def max_model_len(self) -> int: ...

    @property
    def device(self) -> str: ...

def open_llm(folder: str | os.PathLike, options: LlmOptions, progress: object | None, warn: object | None) -> Llm: ...

def resolve_model_folder(arg0: str, arg1: str | os.PathLike, /) -> pathlib.Path: ...

def clear(arg0: int, arg1: int, /) -> None: ...

def count_nan(arg0: int, arg1: int, /) -> int: ...

class Fp8Runtime:
    def __init__(self, threads: int, parallel: int = 0, exchange: object | None = None) -> None: ...

    @property
    def threads(self) -> int: ...

    def describe(self) -> str: ...

    def packed_bytes(self, arg0: int, arg1: int, /) -> int: ...

    def multiply_ceiling(self, thread_time: bool = False) -> float: ...

    def quantize(self, arg0: int, arg1: int, arg2: int, arg3: int, arg4: int, arg5: Fp8WeightScale, arg6: int, arg7: int, /) -> None: ...

    def linear(self, arg0: int, arg1: int, arg2: int, arg3: int, arg4: int, arg5: int, arg6: bool, arg7: int, arg8: int, arg9: int, arg10: int, arg11: int, arg12: int, /) -> None: ...

    def linear_of(self, x: object, codes: object, scales: object, bias: object | None, n: int, k: int, keeps_float32: bool) -> object: ...

    def unpack(self, arg0: int, arg1: int, arg2: int, arg3: int, /) -> None: ...

    def pack(self, arg0: int, arg1: int, arg2: int, arg3: int, /) -> None: ...
