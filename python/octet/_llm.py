# SPDX-License-Identifier: Apache-2.0
"""octet.LLM: a folder of weights opened in FP8, and text from it."""
from __future__ import annotations

import contextlib
import json
import os
import queue
import secrets
import threading
import warnings
from typing import Any, Callable, Iterator, Mapping, Optional, Sequence, Union

import numpy

from . import _octet
from ._choices import check_integer, check_number, hub_cache, llm_options
from ._octet import GenerateOptions, Generation, LoadProgress

Prompt = Union[str, Sequence[int]]
_MAX_SEED = 2**64 - 1
_MANY_TOKENS = 2**31 - 1


class LLM:
    """A language model with its weights in FP8.

    Args:
        model: a folder in Hugging Face layout, or "org/name" in the local Hugging Face cache. Nothing is fetched.
        quantization: how linear layers are stored: "fp8" (= "fp8_per_channel"), "fp8_per_tensor", "fp8_per_block",
            "none".
        fp8_format: "e4m3" or "e5m2". raw_cast: cast to FP8 without scales.
        fp8_lm_head, fp8_embedding: store the head, the embedding in FP8 as well.
        ignore: modules left unquantized: names as in the checkpoint, globs, or "re:REGEX".
        numerics: whose arithmetic is matched to the bit, "vllm" or "compressed-tensors".
        activation_scheme: how activations enter FP8 multiplies: "auto", "none", "dynamic", "static".
        dtype: what is computed in: "auto" (the checkpoint's own), "float32", "bfloat16", "float16".
        load_format: "auto", or "dummy": repeatable random weights from config.json alone.
        page_cache: "keep" leaves the files in it, so that a later start is quicker, "bypass" leaves it to others,
            "auto": bypass where memory is short or the disk about as fast as loading.
        allow_nonfinite: count NaN and infinity in weights instead of refusing them.
        device: "auto", "cpu" or "reference". threads: None for one for each core. isa: a lower instruction set.
        kv_cache_dtype: "auto", "fp8", "fp8_e5m2", "bfloat16", "float16", "float32".
        kv_cache_memory: bytes, or a size such as "2GiB". max_model_len: tokens of a prompt and its answer.
        max_num_seqs: sequences that run together.
        progress: called with a `LoadProgress` (bytes_read, bytes_total, memory_bytes, planned_peak_bytes) while
            loading; returning False stops it with `octet.Interrupted`.
        warn: called with each warning; default: `warnings.warn`.

    Raises:
        ValueError: for a folder or option that cannot be used (`octet.FormatError`, `octet.ConfigError`).
        RuntimeError: when the machine cannot do it (`octet.DeviceError`), or loading was stopped.
        MemoryError: when the model does not fit into memory (`octet.OutOfMemoryError`, which is a DeviceError, too).
        TypeError: for options of a wrong type.

    One call runs at a time; others wait. Long calls run without the GIL, and Ctrl-C stops them.

    Example:
        >>> llm = octet.LLM("models/demo")
        >>> llm.generate("Once upon a time", max_tokens=64).text
    """

    def __init__(self, model: Union[str, os.PathLike], *, quantization: str = "fp8", fp8_format: str = "e4m3",
                 raw_cast: bool = False, fp8_lm_head: bool = False, fp8_embedding: bool = False,
                 ignore: Sequence[str] = (), numerics: str = "vllm", activation_scheme: str = "auto",
                 dtype: str = "auto", load_format: str = "auto", page_cache: str = "auto", allow_nonfinite: bool = False,
                 device: str = "auto",
                 threads: Optional[int] = None, isa: str = "auto", kv_cache_dtype: str = "auto",
                 kv_cache_memory: Union[int, str, None] = None, max_model_len: Optional[int] = None,
                 max_num_seqs: int = 1, progress: Optional[Callable[[LoadProgress], Optional[bool]]] = None,
                 warn: Optional[Callable[[str], None]] = None) -> None:
        given = {name: value for name, value in locals().items() if name not in ("self", "model", "progress", "warn")}
        options = llm_options(given)
        if not isinstance(model, (str, os.PathLike)):
            raise TypeError(f"model: expected a folder or a name, found {type(model).__name__}")
        for name, callback in (("progress", progress), ("warn", warn)):
            if callback is not None and not callable(callback):
                raise TypeError(f"{name}: expected a function, found {callback!r}")
        folder = _octet.resolve_model_folder(os.fspath(model), hub_cache())
        self._llm = _octet.open_llm(folder, options, progress, warn or _warn)
        self._running = threading.Lock()
        self._open_stream = False

    # ---- text and ids ----

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, with the tokens that the model expects around it."""
        return self._llm.encode(_check_text("text", text))

    def encode_chat(self, messages: Sequence[Mapping[str, Any]], *, add_generation_prompt: bool = True) -> list[int]:
        """Token ids of a conversation through the model's chat template: [{"role": "user", "content": "..."}]."""
        if isinstance(messages, (str, Mapping)):
            raise TypeError("messages: expected a list of {'role': ..., 'content': ...}")
        request = {"messages": list(messages), "add_generation_prompt": add_generation_prompt}
        return self._llm.encode_chat(json.dumps(request))

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """The text of token ids."""
        return self._llm.decode(self._ids(ids), skip_special_tokens)

    # ---- generation ----

    def generate(self, prompts: Union[Prompt, Sequence[Prompt]], **sampling: Any) -> Any:
        """Completes one prompt or many.

        Args:
            prompts: a text, a list of token ids, or a list of either. Texts are not put into the chat template; see
                `chat`.
            max_tokens: new tokens at most (256). temperature (0: greedy), top_p, top_k, min_p: default
                generation_config.json. seed: default a new one. stop: texts that end an answer.
            stop_token_ids: ids that do. ignore_eos: go on after the model's own end.

        Returns:
            A `Generation` (text, ids, prompt_ids, finish_reason, prefill_seconds, decode_seconds), or a list of them
            for a list of prompts.

        Example:
            >>> for answer in llm.generate(["One", "Two"], max_tokens=8, temperature=0): print(answer.text)
        """
        ids, many = self._prompts(prompts)
        options = self._options(sampling)
        with self._alone():
            results = self._llm.generate(ids, options, None)
        return results if many else results[0]

    def chat(self, messages: Sequence[Mapping[str, Any]], **sampling: Any) -> Generation:
        """The answer to a conversation; sampling as in `generate`."""
        return self.generate(self.encode_chat(messages), **sampling)

    def stream(self, prompts: Union[Prompt, Sequence[Prompt]], **sampling: Any) -> Iterator[Any]:
        """The same piece by piece, as text becomes certain: str for one prompt, (index, str) for a list of them.
        Closing the iterator (or leaving it) stops the generation. While it is open no other call can run.

        Example:
            >>> for piece in llm.stream("Once upon a time"): print(piece, end="", flush=True)
        """
        ids, many = self._prompts(prompts)
        options = self._options(sampling)
        return self._pieces(ids, options, many)

    def _pieces(self, ids: list[list[int]], options: GenerateOptions, many: bool) -> Iterator[Any]:
        pieces: queue.Queue = queue.Queue(maxsize=256)
        stopped = threading.Event()

        def put(item: Any) -> bool:
            while not stopped.is_set():
                with contextlib.suppress(queue.Full):
                    pieces.put(item, timeout=0.1)
                    return True
            return False

        def run() -> None:
            try:
                self._llm.generate(ids, options, lambda index, text: put((index, text)) if text else
                                   not stopped.is_set())
                put(None)
            except BaseException as error:  # handed to the reader
                put(error)

        with self._alone():
            self._open_stream = True
            thread = threading.Thread(target=run, name="octet-stream", daemon=True)
            thread.start()
            try:
                while (item := pieces.get()) is not None:
                    if isinstance(item, BaseException):
                        raise item
                    yield item if many else item[1]
            finally:
                stopped.set()
                thread.join()
                self._open_stream = False

    # ---- looking in ----

    def logits(self, prompt: Prompt) -> numpy.ndarray:
        """The logits at every position of a prompt: float32 [T, vocab_size]."""
        (ids,), _ = self._prompts(prompt)
        with self._alone():
            return self._llm.logits(ids)

    def memory(self) -> dict[str, int]:
        """Bytes: weights_bytes, kv_cache_bytes, peak_bytes (of all that Octet took), load_peak_bytes,
        planned_load_peak_bytes, process_peak_rss_bytes."""
        return self._llm.memory()

    def load_report(self) -> dict[str, Any]:
        """What became of every tensor of the checkpoint: what `octet generate --load-report` writes."""
        return json.loads(self._llm.load_report_json())

    @property
    def vocab_size(self) -> int:
        return self._llm.vocab_size

    @property
    def max_model_len(self) -> int:
        """Tokens of a prompt and its answer."""
        return self._llm.max_model_len

    @property
    def device(self) -> str:
        """What runs the model, for people: "cpu (avx2, 2 threads)"."""
        return self._llm.device

    # ---- arguments ----

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        if self._open_stream:
            raise RuntimeError("a stream of this LLM is open: read it to its end or close() it first")
        with self._running:
            yield

    def _ids(self, ids: Sequence[int]) -> list[int]:
        return [check_integer("a token id", token, 0, self._llm.vocab_size - 1) for token in ids]

    def _prompts(self, prompts: Any) -> tuple[list[list[int]], bool]:
        if isinstance(prompts, str):
            return [self.encode(prompts)], False
        if isinstance(prompts, (bytes, Mapping)) or not hasattr(prompts, "__iter__"):
            raise TypeError("prompts: expected a str, a list of token ids, or a list of either, found "
                            f"{type(prompts).__name__}")
        prompts = list(prompts)
        if not prompts:
            raise ValueError("prompts: expected at least one prompt or token id, found an empty list")
        if hasattr(prompts[0], "__index__"):
            return [self._ids(prompts)], False
        return [self._prompts(prompt)[0][0] for prompt in prompts], True

    def _options(self, given: Mapping[str, Any]) -> GenerateOptions:
        options = GenerateOptions()
        sampling = self._llm.recommended_sampling()
        unknown = sorted(set(given) - set(_SAMPLING) - {"stop"})
        if unknown:
            raise TypeError(f"unknown sampling options {', '.join(unknown)}; known are {', '.join(_SAMPLING)}, stop")
        if sampling.temperature == 0 and any(given.get(name) is not None for name in ("top_p", "top_k", "min_p")):
            sampling.temperature = 1.0
        sampling.max_tokens = 256
        sampling.seed = secrets.randbits(64)
        for name, check in _SAMPLING.items():
            if given.get(name) is not None:
                setattr(sampling, name, check(name, given[name]))
        options.sampling = sampling
        stop = given.get("stop") or []
        options.stop = [_check_text("stop", text) for text in ([stop] if isinstance(stop, str) else stop)]
        return options


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=2)


def _check_text(name: str, text: Any) -> str:
    if not isinstance(text, str):
        raise TypeError(f"{name}: expected a str, found {type(text).__name__}")
    return text


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{name}: expected a bool, found {value!r}")
    return value


_SAMPLING: dict[str, Callable[[str, Any], Any]] = {
    "max_tokens": lambda name, value: check_integer(name, value, 1, _MANY_TOKENS),
    "temperature": lambda name, value: check_number(name, value, 0, 1e6),
    "top_p": lambda name, value: check_number(name, value, 0, 1),
    "top_k": lambda name, value: check_integer(name, value, 0, _MANY_TOKENS),
    "min_p": lambda name, value: check_number(name, value, 0, 1),
    "seed": lambda name, value: check_integer(name, value, 0, _MAX_SEED),
    "ignore_eos": _flag,
    "stop_token_ids": lambda name, value: [check_integer(name, token, 0, _MANY_TOKENS) for token in value],
}
