# SPDX-License-Identifier: Apache-2.0
"""Broken models and files: one clear message, exit code 1, no crash, nothing half-written."""

import json
import struct
import unittest

from harness import DEMO, STORIES, TINY, OctetTest, main

LOAD = ("generate", "--prompt-ids", "1,2,3", "-n", "2")


class BadFolders(OctetTest):
    def test_a_missing_folder_is_refused_with_what_was_tried(self):
        self.refused(1, "no such folder", *LOAD, self.folder / "nowhere")

    def test_an_unknown_name_of_the_hub_is_refused_with_the_cache_that_was_searched(self):
        self.refused(1, "models--some--model does not exist.*hf download some/model", *LOAD, "some/model")

    def test_an_empty_folder_is_refused_naming_config_json(self):
        self.refused(1, "config.json", *LOAD, self.folder)

    def test_a_file_instead_of_a_folder_is_refused(self):
        self.refused(1, "expected a folder", *LOAD, TINY / "config.json")

    def test_a_folder_without_weights_is_refused(self):
        copy = self.copy_of(TINY)
        (copy / "model.safetensors").unlink()
        self.refused(1, "safetensors", *LOAD, copy)

    def test_the_hub_cache_is_searched_by_its_layout(self):
        snapshot = self.folder / "hub" / "models--some--model" / "snapshots" / "abc"
        snapshot.mkdir(parents=True)
        for name in ("config.json", "model.safetensors"):
            (snapshot / name).write_bytes((TINY / name).read_bytes())
        self.environment["HF_HUB_CACHE"] = str(self.folder / "hub")
        self.done(*LOAD, "some/model")
        del self.environment["HF_HUB_CACHE"]
        self.environment["HF_HOME"] = str(self.folder)
        self.done(*LOAD, "some/model")
        del self.environment["HF_HOME"]
        self.environment["XDG_CACHE_HOME"] = str(self.folder / "elsewhere")
        self.refused(1, "elsewhere/huggingface/hub/models--some--model", *LOAD, "some/model")


class BadWeights(OctetTest):
    def test_a_truncated_file_is_refused_by_name(self):
        copy = self.copy_of(TINY)
        path = copy / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-100])
        self.refused(1, "model.safetensors", *LOAD, copy)

    def test_any_read_that_fails_is_one_error_naming_the_file(self):
        for number in range(1, 200):
            self.fail_read(number)
            if self.octet(*LOAD, TINY, "--quiet").returncode == 0:
                break
            self.refused(1, "model.safetensors: reading [0-9]+ bytes at offset [0-9]+ failed: Input/output error", *LOAD, TINY)
        self.assertIn(number, range(20, 200))

    def test_files_of_an_index_that_are_not_there_are_all_named(self):
        copy = self.copy_of(TINY)
        (copy / "model.safetensors").rename(copy / "model-00001-of-00003.safetensors")
        names = {"model.norm.weight": 1, "model.layers.0.mlp.up_proj.weight": 2, "model.layers.1.mlp.up_proj.weight": 3}
        index = {"weight_map": {name: f"model-0000{i}-of-00003.safetensors" for name, i in names.items()}}
        (copy / "model.safetensors.index.json").write_text(json.dumps(index))
        for words in (LOAD, ("quantize", "--overwrite")):
            more = (self.folder / "out",) if words[0] == "quantize" else ()
            result = self.refused(1, "model-00002-of-00003.safetensors: cannot be opened: No such file", *words, copy, *more)
            self.assertIn("model-00003-of-00003.safetensors: cannot be opened", result.err)
            self.assertFalse((self.folder / "out").exists())

    def test_a_header_longer_than_the_file_is_refused(self):
        copy = self.copy_of(TINY)
        (copy / "model.safetensors").write_bytes(struct.pack("<Q", 1 << 60) + b"{}")
        self.refused(1, "model.safetensors", *LOAD, copy)

    def test_missing_tensors_are_reported_together(self):
        copy = self.copy_of(TINY, num_hidden_layers=40)
        result = self.refused(1, "342 faults.*missing tensor 'model.layers.2.input_layernorm.weight'", *LOAD, copy)
        self.assertIn("model.layers.2.mlp.down_proj.weight", result.err)

    def test_a_wrong_shape_is_refused_with_both_shapes(self):
        copy = self.copy_of(TINY, intermediate_size=136)
        self.refused(1, "136", *LOAD, copy)

    def test_nan_in_a_weight_is_named_and_counted_and_can_be_allowed(self):
        copy = self.copy_of(TINY)
        path = copy / "model.safetensors"
        data = bytearray(path.read_bytes())
        length = struct.unpack("<Q", data[:8])[0]
        name = "model.layers.0.mlp.up_proj.weight"
        begin = 8 + length + json.loads(data[8:8 + length])[name]["data_offsets"][0]
        data[begin:begin + 2] = b"\xc0\x7f"
        path.write_bytes(data)
        self.refused(1, "model.layers.0.mlp.up_proj.*--allow-nonfinite", *LOAD, copy)
        report = self.folder / "report.json"
        self.done("logits", copy, "--ids", "1", "--allow-nonfinite", "--load-report", report)
        counts = {weight["name"]: weight.get("nonfinite") for weight in json.loads(report.read_text())["weights"]}
        self.assertEqual(counts[name], 1)


class BadConfigs(OctetTest):
    def test_an_unknown_architecture_is_refused_naming_the_nearest_and_what_is_missing(self):
        copy = self.copy_of(TINY, architectures=["LlamaForCausalXM"], model_type="lama", intermediate_size=136,
                            conv_kernel=4)
        expected = ("'LlamaForCausalXM' is not supported; the nearest known one is LlamaForCausalLM.*'conv_kernel'.*"
                    r"another shape.*mlp.down_proj.weight' \(2 of them\): expected")
        for words in (LOAD, ("inspect",), ("logits", "--ids", "1"), ("bench", "--load-format", "dummy")):
            self.refused(1, expected, *words, copy)

    def test_inspect_says_the_same_of_an_unknown_architecture_in_json(self):
        copy = self.copy_of(TINY, architectures=["FooForCausalLM"], model_type="foo", conv_kernel=4)
        (copy / "model.safetensors").unlink()
        result = self.octet("inspect", copy, "--json")
        self.assertEqual(result.returncode, 1)
        self.assertIn("octet: error:", result.err)
        said = json.loads(result.out)
        self.assertEqual((said["architecture"], said["supported"], said["nearest"]),
                         ("FooForCausalLM", False, "LlamaForCausalLM"))
        self.assertEqual(said["config"]["unread"], {"count": 1, "shown": ["conv_kernel"]})
        self.assertEqual(said["tensors"]["compared"], False)

    def test_zero_heads_are_refused(self):
        self.refused(1, "num_attention_heads.*found 0", *LOAD, self.copy_of(TINY, num_attention_heads=0))

    def test_10_to_the_12_layers_are_refused(self):
        self.refused(1, "num_hidden_layers", *LOAD, self.copy_of(TINY, num_hidden_layers=10**12))

    def test_a_million_layers_are_refused_without_taking_their_memory(self):
        self.refused(1, "num_hidden_layers|missing", *LOAD, self.copy_of(TINY, num_hidden_layers=10**6))

    def test_nan_is_refused(self):
        copy = self.copy_of(TINY)
        path = copy / "config.json"
        config = json.loads(path.read_text())
        config["rms_norm_eps"] = float("nan")
        path.write_text(json.dumps(config))
        self.refused(1, "config.json", *LOAD, copy)

    def test_wrong_types_are_all_reported_together(self):
        copy = self.copy_of(TINY, hidden_size="many", vocab_size=[1])
        result = self.refused(1, "hidden_size", *LOAD, copy)
        self.assertIn("vocab_size", result.err)

    def test_broken_json_is_refused_by_name(self):
        copy = self.copy_of(TINY)
        (copy / "config.json").write_text("{\"hidden_size\": ")
        self.refused(1, "config.json", *LOAD, copy)

    def test_a_broken_generation_config_is_refused_by_name(self):
        copy = self.copy_of(TINY)
        (copy / "generation_config.json").write_text('{"do_sample": true, "temperature": "hot"}')
        self.refused(1, "generation_config.json.*temperature", *LOAD, copy)

    def test_vast_sizes_take_no_memory_for_their_claim(self):
        huge = self.copy_of(TINY, vocab_size=2**31 - 1, hidden_size=2**20)
        self.refused(1, "", *LOAD, huge)
        self.refused(1, "memory|KV cache|expected", *LOAD, huge, "--load-format", "dummy")


class BadTokenizers(OctetTest):
    def test_a_tokenizer_that_does_not_match_is_refused_with_both_sizes(self):
        copy = self.copy_of(TINY)
        self.need(DEMO / "tokenizer.json")
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (copy / name).write_bytes((DEMO / name).read_bytes())
        self.refused(1, "tokenizer does not match.*vocab_size 131", *LOAD, copy)

    def test_text_without_a_tokenizer_is_refused_with_the_way_out(self):
        self.refused(1, "no tokenizer; give token ids", "generate", TINY, "-p", "Hello")

    def test_text_that_is_not_utf8_is_refused_with_its_place(self):
        self.need(STORIES)
        self.refused(1, "UTF-8", "generate", STORIES, "--raw-prompt", "-p", "-", stdin=b"ab\xff")
        self.refused(1, "UTF-8", "tokenize", STORIES, "-", stdin=b"ab\xff")
        self.need(DEMO / "config.json")
        self.refused(1, "UTF-8", "generate", DEMO, "-p", "-", stdin=b"ab\xff")

    def test_ids_outside_of_the_vocabulary_are_refused(self):
        self.refused(1, r"prompt\[1\].*from 0 to 130, found 131", "generate", TINY, "--prompt-ids", "1,131")
        self.refused(1, "found 131", "logits", TINY, "--ids", "131")

    def test_a_prompt_longer_than_the_context_is_refused(self):
        self.refused(1, "context", "generate", TINY, "--prompt-ids", ",".join(["1"] * 128))
        self.refused(1, "context", "logits", TINY, "--ids", ",".join(["1"] * 129))


if __name__ == "__main__":
    main()
