# SPDX-License-Identifier: Apache-2.0
"""`octet logits` against what transformers computed, on every backend and instruction set of this machine."""

import json
import unittest

from harness import GOLDEN, OctetTest, ids_text, main, read_npy, read_safetensors

TOLERANCE = 1e-4  # of the largest difference over the largest logit
VARIANTS = {
    "fp8_per_channel": ("--quantization", "fp8"),
    "fp8_per_channel_tables": ("--quantization", "fp8", "--fp8-lm-head", "--fp8-embedding"),
    "fp8_per_tensor": ("--quantization", "fp8_per_tensor"),
    "fp8_per_tensor_tables": ("--quantization", "fp8_per_tensor", "--fp8-lm-head", "--fp8-embedding"),
    "fp8_per_block": ("--quantization", "fp8_per_block"),
    "fp8_per_block_tables": ("--quantization", "fp8_per_block", "--fp8-lm-head", "--fp8-embedding"),
    "fp8_e5m2_per_channel": ("--quantization", "fp8", "--fp8-format", "e5m2"),
    "raw_cast": ("--quantization", "fp8", "--raw-cast"),
    "raw_cast_tables": ("--quantization", "fp8", "--raw-cast", "--fp8-lm-head", "--fp8-embedding"),
}


class GoldenTest(OctetTest):
    def distance(self, model, variant, *options):
        """The worst sequence's largest difference over its largest logit."""
        golden = json.loads((model / "golden.json").read_text())
        tensors = read_safetensors(model / "golden.safetensors")
        worst = 0.0
        for i, ids in enumerate(golden["ids"]):
            output = self.folder / "logits.npy"
            self.done("logits", model, "--ids", ids_text(ids), "--output", output, "--dtype", "float32", *options)
            shape, values = read_npy(output)
            _, expected_shape, expected = tensors[f"{variant}.logits.{i}" if variant else f"logits.{i}"]
            self.assertEqual(list(shape), expected_shape)
            largest = max(map(abs, expected))
            worst = max(worst, max(abs(a - b) for a, b in zip(values, expected)) / largest)
        return worst

    def check(self, model, variant, *options):
        self.assertLessEqual(self.distance(model, variant, *options), TOLERANCE, f"{model.name} {variant} {options}")


class EveryModel(GoldenTest):
    def each(self, *prefixes):
        for model in sorted(GOLDEN.iterdir()):
            if model.name.startswith(prefixes):
                self.check(model, "", "--quantization", "none")

    def test_llama_models_give_the_logits_of_transformers(self):
        self.each("llama")

    def test_mistral_models_give_the_logits_of_transformers(self):
        self.each("mistral")

    def test_qwen_models_give_the_logits_of_transformers(self):
        self.each("qwen")


class EveryVariant(GoldenTest):
    def check_variants(self, *options):
        for model in (GOLDEN / "qwen3", GOLDEN / "llama_tied"):
            for variant in json.loads((model / "golden.json").read_text())["variants"]:
                self.check(model, variant, *VARIANTS[variant], *options)

    def test_each_way_to_store_weights_gives_the_logits_of_the_dequantized_model(self):
        self.check_variants()

    def test_the_reference_backend_does_too(self):
        self.check_variants("--device", "reference")


class EveryIsa(GoldenTest):
    def on_isa(self, isa):
        result = self.octet("logits", GOLDEN / "qwen3", "--ids", "1", "--isa", isa)
        if result.returncode != 0:
            self.assertRegex(result.err, f"this machine lacks {isa}; it has portable")
            self.skipTest(f"this machine lacks {isa}")
        self.check(GOLDEN / "qwen3", "", "--quantization", "none", "--isa", isa)
        self.check(GOLDEN / "qwen3", "fp8_per_channel", *VARIANTS["fp8_per_channel"], "--isa", isa)
        self.check(GOLDEN / "qwen3", "fp8_per_block_tables", *VARIANTS["fp8_per_block_tables"], "--isa", isa)

    def test_portable_kernels_agree_with_transformers(self):
        self.on_isa("portable")

    def test_avx2_kernels_agree_with_transformers(self):
        self.on_isa("avx2")

    def test_avx512_kernels_agree_with_transformers(self):
        self.on_isa("avx512")

    def test_avx512_bf16_kernels_agree_with_transformers(self):
        self.on_isa("avx512_bf16")

    def test_amx_bf16_kernels_agree_with_transformers(self):
        self.on_isa("amx_bf16")

    def test_the_reference_backend_agrees_with_transformers(self):
        self.check(GOLDEN / "qwen3", "", "--quantization", "none", "--device", "reference")


if __name__ == "__main__":
    main()
