#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Loads what `octet quantize` wrote with transformers and compressed-tensors, and compares every weight.

    tools/check_export.py --octet build/bin/octet [MODEL ...]

For each format and granularity that transformers reads, the model is written to a temporary folder and opened with
`AutoModelForCausalLM.from_pretrained`, dequantized by the public package. Each weight must be scale * q of the file,
rounded to the model's dtype, to the last bit. Without a MODEL two small ones with random weights are made, tied and
untied, whose sizes 128 divides. Needs torch, transformers and compressed-tensors.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors import safe_open
from transformers import (AutoModelForCausalLM, CompressedTensorsConfig, FineGrainedFP8Config, LlamaConfig,
                          LlamaForCausalLM)
from transformers.utils import logging

BLOCK = 128
CASES = (
    ("compressed-tensors", ("--quantization", "fp8_per_tensor")),
    ("compressed-tensors", ("--quantization", "fp8_per_channel")),
    ("compressed-tensors", ("--quantization", "fp8_per_block")),
    ("compressed-tensors", ("--quantization", "fp8_per_channel", "--activation-scheme", "none")),
    ("compressed-tensors", ("--quantization", "fp8_per_channel", "--fp8-lm-head")),
    ("compressed-tensors", ("--quantization", "fp8_per_channel", "--fp8-lm-head", "--fp8-embedding")),
    ("fp8-block", ("--quantization", "fp8_per_block")),
)


def tensors_of(folder: Path) -> dict:
    tensors = {}
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            tensors.update({name: file.get_tensor(name) for name in file.keys()})
    return tensors


def spread(scale: torch.Tensor, shape) -> torch.Tensor:
    if scale.numel() == 1:
        return scale.reshape(1, 1)
    if scale.shape[0] == shape[0]:
        return scale.reshape(-1, 1)
    return scale.repeat_interleave(BLOCK, 0).repeat_interleave(BLOCK, 1)[:shape[0], :shape[1]]


def expected_weights(folder: Path, dtype: torch.dtype) -> dict:
    tensors = tensors_of(folder)
    weights = {}
    for name, tensor in tensors.items():
        if name.endswith(("_scale", "_scale_inv")):
            continue
        scale = tensors.get(name + "_scale", tensors.get(name + "_scale_inv"))
        weights[name] = tensor.to(dtype) if scale is None else (tensor.float() * spread(scale, tensor.shape)).to(dtype)
    return weights


def load(folder: Path, form: str) -> torch.nn.Module:
    config = CompressedTensorsConfig(dequantize=True) if form == "compressed-tensors" else FineGrainedFP8Config(dequantize=True)
    return AutoModelForCausalLM.from_pretrained(folder, quantization_config=config, device_map="cpu")


def check(octet: str, model: Path, form: str, options: tuple) -> str:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "out"
        done = subprocess.run([octet, "quantize", model, folder, "--format", form, "--quiet", *options], capture_output=True,
                              text=True, check=False)
        if done.returncode != 0:
            return "refused: " + done.stderr.strip().splitlines()[-1]
        loaded = load(folder, form)
        found = loaded.state_dict()
        wrong = []
        for name, weight in expected_weights(folder, loaded.dtype).items():
            if name not in found:
                wrong.append(f"{name} missing")
            elif not torch.equal(found[name].to(weight.dtype), weight):
                error = (found[name].double() - weight.double()).abs().max() / weight.double().abs().max()
                wrong.append(f"{name} by {error:.1e}")
        return "equal" if not wrong else f"{len(wrong)} differ: " + ", ".join(wrong[:3])


def make_model(folder: Path, tied: bool) -> Path:
    torch.manual_seed(0)
    config = LlamaConfig(hidden_size=256, intermediate_size=640, num_hidden_layers=2, num_attention_heads=4,
                         num_key_value_heads=2, vocab_size=384, tie_word_embeddings=tied, dtype="bfloat16")
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    return folder


def main():
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--octet", required=True)
    args = parser.parse_args()
    failed = False
    made = tempfile.TemporaryDirectory()
    models = args.models or [make_model(Path(made.name) / name, name == "tied") for name in ("tied", "untied")]
    for model in models:
        for form, options in CASES:
            result = check(args.octet, model, form, options)
            failed = failed or "differ" in result
            print(f"| {model.name} | {form} | {' '.join(options)} | {result} |", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
