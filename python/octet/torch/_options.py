# SPDX-License-Identifier: Apache-2.0
"""What a user chooses for the FP8 layers of a model."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

_STORAGES = ("keep", "cpu_offload", "discard")
_SCALES = ("tensor", "channel")


@dataclass(frozen=True)
class FP8GemmOptions:
    """Options of :func:`enable_fp8_gemm`, :class:`FP8Linear` and :class:`FP8Experts`.

    Attributes:
        cast_inputs: inputs that are neither float16 nor bfloat16 are cast to bfloat16; with False they use the source
            weights instead.
        cast_output_back: the output has the input's dtype; with False the output of a cast input is bfloat16.
        fp16_weight_storage: what becomes of the 16-bit weights. "keep": the linear stays as it was; "cpu_offload": a
            bfloat16 copy on the CPU; "discard": that copy until the FP8 weight is made, then nothing.
        materialize_fp8_on_wrap: quantize while wrapping where the weight lies on one of `devices`; with False at the
            first forward.
        devices: types of devices on which the FP8 multiply runs; elsewhere the source weights are used. This build
            serves "cpu".
        weight_scale: "tensor": one scale for a weight, amax / 448, codes by multiplying with its reciprocal;
            "channel": one for each output row, at least 1 / (448 * 512), codes by division.
        experts: wrap the fused expert modules of transformers as well (3-D `gate_up_proj` and `down_proj`).

    Raises:
        ValueError: for an unknown storage or scale, and for "discard" with `cast_inputs=False`, which would need
            the source weights.
        TypeError: for a flag that is no bool, or devices that are no names.

    Example:
        >>> FP8GemmOptions(fp16_weight_storage="cpu_offload", weight_scale="channel")
    """

    cast_inputs: bool = True
    cast_output_back: bool = True
    fp16_weight_storage: Literal["keep", "cpu_offload", "discard"] = "discard"
    materialize_fp8_on_wrap: bool = True
    devices: tuple[str, ...] = ("cuda", "cpu")
    weight_scale: Literal["tensor", "channel"] = "tensor"
    experts: bool = False

    def __post_init__(self) -> None:
        for name in ("cast_inputs", "cast_output_back", "materialize_fp8_on_wrap", "experts"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"FP8GemmOptions.{name}: expected a bool, found {getattr(self, name)!r}")
        if self.fp16_weight_storage not in _STORAGES:
            raise ValueError("FP8GemmOptions.fp16_weight_storage: expected one of "
                             f"{', '.join(_STORAGES)}, found {self.fp16_weight_storage!r}")
        if self.weight_scale not in _SCALES:
            raise ValueError(f"FP8GemmOptions.weight_scale: expected one of {', '.join(_SCALES)}, found "
                             f"{self.weight_scale!r}")
        if isinstance(self.devices, str) or not all(isinstance(device, str) for device in self.devices):
            raise TypeError("FP8GemmOptions.devices: expected a tuple of device types such as ('cpu',), found "
                            f"{self.devices!r}")
        object.__setattr__(self, "devices", tuple(self.devices))
        if self.fp16_weight_storage == "discard" and not self.cast_inputs:
            raise ValueError("FP8GemmOptions: fp16_weight_storage='discard' cannot go with cast_inputs=False: inputs "
                             "that are not cast need the source weights; choose 'keep' or 'cpu_offload'")
