# SPDX-License-Identifier: Apache-2.0
"""Octet runs Hugging Face language models with their weights in FP8.

    >>> import octet
    >>> llm = octet.LLM("models/demo")
    >>> print(llm.generate("Once upon a time", max_tokens=64).text)

`octet.torch` (which needs PyTorch) turns the linear layers of any PyTorch model into FP8 layers.
"""
from __future__ import annotations

from ._llm import LLM
from ._octet import (ArgumentError, ConfigError, DeviceError, Error, FormatError, Generation, Interrupted,
                     LoadProgress, OutOfMemoryError, __version__)

__all__ = ["ArgumentError", "ConfigError", "DeviceError", "Error", "FormatError", "Generation", "Interrupted", "LLM",
           "LoadProgress", "OutOfMemoryError", "__version__"]
