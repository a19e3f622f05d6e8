# SPDX-License-Identifier: Apache-2.0
"""`octet inspect`, `tokenize`, `logits`, `evaluate`: what they print."""

import json
import math
import unittest

from harness import DEMO, EXACT, SOURCE, STORIES, TINY, OctetTest, main, read_npy

TEKKEN = SOURCE / "tests" / "golden" / "text" / "tekken"


class Inspect(OctetTest):
    def test_json_holds_the_promised_fields(self):
        seen = self.json("inspect", TINY, "--json")
        self.assertEqual(seen["architecture"], "LlamaForCausalLM")
        self.assertEqual(seen["parameters"], sum(group["elements"] for group in seen["groups"]))
        for group in seen["groups"]:
            self.assertEqual(set(group), {"name", "elements", "bytes_before", "bytes_after"})
        self.assertGreaterEqual(seen["plan"]["peak_bytes"], seen["plan"]["final_bytes"])
        config = json.loads((TINY / "config.json").read_text())
        per_token = 2 * 2 * config["num_hidden_layers"] * config["num_key_value_heads"] * config["head_dim"]
        self.assertEqual(seen["kv_cache_bytes_per_token"], per_token)
        self.assertEqual([option["option"] for option in seen["options"]], ["--quantization fp8", "--fp8-lm-head", "--fp8-embedding"])
        for option in seen["options"]:
            self.assertEqual(option["kv_cache_tokens"], option["saved_bytes"] // per_token)

    def test_a_smaller_cache_holds_more_tokens_for_the_same_saving(self):
        plain = self.json("inspect", TINY, "--json")
        small = self.json("inspect", TINY, "--json", "--kv-cache-dtype", "fp8")
        self.assertLess(small["kv_cache_bytes_per_token"], plain["kv_cache_bytes_per_token"])

    def test_the_table_shows_groups_plan_and_savings(self):
        out = self.done("inspect", TINY)
        for words in ("LlamaForCausalLM", "embed_tokens", "attention", "mlp", "memory at the peak", "bytes per token", "--fp8-embedding"):
            self.assertIn(words, out)

    def test_tensors_are_listed_with_dtype_shape_and_file(self):
        out = self.done("inspect", TINY, "--tensors")
        self.assertRegex(out, r"model\.norm\.weight +BF16 +\[48\] +.*model\.safetensors")
        tensors = self.json("inspect", TINY, "--tensors", "--json")["tensors"]
        self.assertIn(("model.norm.weight", "BF16", [48]), [(t["name"], t["dtype"], t["shape"]) for t in tensors])

    def test_no_weight_is_read(self):
        copy = self.copy_of(TINY)
        path = copy / "model.safetensors"
        size = path.stat().st_size
        with open(path, "r+b") as file:  # the values become a hole: NaN would be found if they were read
            length = int.from_bytes(file.read(8), "little")
            file.truncate(8 + length)
            file.truncate(size)
        self.assertEqual(self.json("inspect", copy, "--json")["plan"], self.json("inspect", TINY, "--json")["plan"])

    def test_dummy_format_needs_config_json_alone(self):
        copy = self.copy_of(TINY)
        (copy / "model.safetensors").unlink()
        seen = self.json("inspect", copy, "--json", "--load-format", "dummy")
        self.assertEqual(seen["parameters"], self.json("inspect", TINY, "--json")["parameters"])


class Tokenize(OctetTest):
    def test_ids_pieces_and_back(self):
        self.need(STORIES)
        seen = self.json("tokenize", STORIES, "Once upon a time", "--json")
        self.assertEqual(seen["text"], "Once upon a time")
        self.assertEqual(len(seen["ids"]), len(seen["pieces"]))
        ids = ",".join(map(str, seen["ids"]))
        self.assertEqual(self.json("tokenize", STORIES, "--decode", ids, "--json")["ids"], seen["ids"])
        plain = self.json("tokenize", STORIES, "Once upon a time", "--no-special-tokens", "--json")
        self.assertEqual(plain["ids"], seen["ids"][1:])
        self.assertEqual(self.done("tokenize", STORIES, "--decode", ",".join(map(str, plain["ids"]))), "Once upon a time\n")

    def test_the_table_shows_each_piece(self):
        self.need(STORIES)
        seen = self.json("tokenize", STORIES, "Once upon", "--json")
        lines = self.done("tokenize", STORIES, "Once upon").splitlines()[1:]
        self.assertEqual([line.split(None, 1) for line in lines], [[str(i), p] for i, p in zip(seen["ids"], seen["pieces"])])

    def test_standard_input_is_taken_to_the_byte(self):
        self.need(STORIES)
        self.assertEqual(self.json("tokenize", STORIES, "-", "--json", stdin=b"a\nb\n")["text"], "a\nb\n")

    def test_decoding_can_leave_special_tokens_out(self):
        self.need(DEMO / "config.json")
        self.assertEqual(self.done("tokenize", DEMO, "--decode", "0", "--no-special-tokens"), "\n")
        self.assertEqual(self.done("tokenize", DEMO, "--decode", "0"), "<|begin_of_text|>\n")

    def test_no_weights_and_no_config_are_needed(self):
        self.need(STORIES)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (self.folder / name).write_bytes((STORIES / name).read_bytes())
        self.assertEqual(self.done("tokenize", self.folder, "Once", "--json"), self.done("tokenize", STORIES, "Once", "--json"))

    def test_conversations_are_rendered(self):
        self.need(DEMO / "config.json")
        request = {"messages": [{"role": "user", "content": " Hi "}], "add_generation_prompt": True}
        expected = "<|begin_of_text|><|user|>\nHi<|end_of_turn|>\n<|assistant|>\n"
        path = self.folder / "messages.json"
        path.write_text(json.dumps(request))
        self.assertEqual(self.done("tokenize", DEMO, "--messages", path), expected)
        self.assertEqual(self.done("tokenize", DEMO, "--messages", "-", stdin=path.read_bytes()), expected)
        seen = self.json("tokenize", DEMO, "--messages", path, "--json")
        self.assertEqual(seen["text"], expected)
        self.assertEqual(seen["ids"], self.json("tokenize", DEMO, expected, "--no-special-tokens", "--json")["ids"])
        path.write_text(json.dumps(request["messages"]))
        self.assertEqual(self.done("tokenize", DEMO, "--messages", path), expected.removesuffix("<|assistant|>\n"))

    def test_with_tekken_json_a_message_cannot_spell_a_special_token(self):
        messages = [{"role": "user", "content": "x[/INST]"}]
        seen = self.json("tokenize", TEKKEN, "--messages", "-", "--json", stdin=json.dumps(messages).encode())
        self.assertEqual(seen["text"], "<s>[INST]x[/INST][/INST]")
        self.assertEqual([seen["ids"][:2], seen["ids"].count(4), seen["ids"][-1]], [[1, 3], 1, 4])

    def test_without_a_model_the_text_goes_to_the_bundled_one(self):
        self.need(DEMO / "config.json")
        self.assertEqual(self.done("tokenize", "Hello"), self.done("tokenize", DEMO, "Hello"))

    def test_what_is_missing_or_broken_is_refused(self):
        self.refused(1, "tokenizer", "tokenize", TINY, "Hello")
        self.refused(1, "no chat template", "tokenize", TINY, "--messages", "-", stdin=b"[]")
        self.need(DEMO / "config.json")
        self.refused(1, "standard input", "tokenize", DEMO, "--messages", "-", stdin=b"{")
        self.refused(1, "messages", "tokenize", DEMO, "--messages", "-", stdin=b"{}")
        self.refused(1, "nowhere.json", "tokenize", DEMO, "--messages", "nowhere.json")
        self.refused(1, "4096", "tokenize", DEMO, "--decode", "1,4096")


class Logits(OctetTest):
    WORDS = ("logits", TINY, "--ids", "1,2,3", *EXACT)

    def test_json_top_and_file_agree(self):
        path = self.folder / "x.npy"
        seen = self.json(*self.WORDS, "--json", "--output", path)
        (rows, cols), values = read_npy(path)
        self.assertEqual((seen["ids"], rows, cols), ([1, 2, 3], 3, 131))
        for row in range(rows):
            for a, b in zip(seen["logits"][row], values[row * cols:(row + 1) * cols]):
                self.assertAlmostEqual(a, b, places=6)
        top = self.json(*self.WORDS, "--json", "--top", "4")["top"]
        for row, best in zip(seen["logits"], top):
            order = sorted(range(cols), key=lambda i: -row[i])[:4]
            self.assertEqual([token["id"] for token in best], order)
            self.assertEqual([token["logit"] for token in best], [row[i] for i in order])

    def test_the_table_has_k_lines_for_each_position(self):
        self.assertEqual(len(self.done(*self.WORDS, "--top", "4").splitlines()), 1 + 3 * 4)
        self.assertEqual(len(self.done(*self.WORDS).splitlines()), 1 + 3 * 5)

    def test_the_file_alone_prints_nothing(self):
        self.assertEqual(self.done(*self.WORDS, "--output", self.folder / "x.npy"), "")

    def test_a_text_is_encoded_as_it_is(self):
        self.need(STORIES)
        ids = self.json("tokenize", STORIES, "Once upon", "--json")["ids"]
        seen = self.json("logits", STORIES, "-p", "Once upon", "--json", "--top", "1")
        self.assertEqual(seen["ids"], ids)
        self.assertTrue(all(best[0]["piece"] for best in seen["top"]))


class Evaluate(OctetTest):
    def setUp(self):
        super().setUp()
        self.need(STORIES)
        self.text = self.folder / "story.txt"
        self.text.write_text((STORIES / "expected.txt").read_text())

    def evaluate(self, *options):
        return self.json("evaluate", STORIES, "--text", self.text, "--json", *options)

    def test_fp8_is_close_to_the_reference_and_unquantized_is_it(self):
        fp8 = self.evaluate("--dtype", "float32")
        self.assertEqual(set(fp8), {"tokens", "perplexity", "reference_perplexity", "perplexity_ratio", "kl_divergence", "top1_agreement"})
        self.assertTrue(0.8 < fp8["perplexity_ratio"] < 1.25 and fp8["perplexity_ratio"] != 1, fp8)
        self.assertTrue(0 < fp8["kl_divergence"] < 0.1 and fp8["top1_agreement"] > 0.8, fp8)
        same = self.evaluate(*EXACT)
        self.assertAlmostEqual(same["perplexity_ratio"], 1, places=5)
        self.assertAlmostEqual(same["kl_divergence"], 0, places=5)
        self.assertEqual(same["top1_agreement"], 1)

    def test_perplexity_is_that_of_the_logits(self):
        ids = self.json("tokenize", STORIES, "-", "--json", stdin=self.text.read_bytes())["ids"]
        rows = self.json("logits", STORIES, "--ids", ",".join(map(str, ids)), "--json", *EXACT)["logits"]
        loss = 0.0
        for row, target in zip(rows, ids[1:]):
            best = max(row)
            loss += best + math.log(sum(math.exp(x - best) for x in row)) - row[target]
        seen = self.evaluate("--no-reference", *EXACT)
        self.assertEqual(seen["tokens"], len(ids) - 1)
        self.assertAlmostEqual(seen["perplexity"], math.exp(loss / (len(ids) - 1)), places=3)
        self.assertIsNone(seen["reference_perplexity"])

    def test_a_short_window_forgets(self):
        whole, short = self.evaluate("--no-reference"), self.evaluate("--no-reference", "--window", "8")
        self.assertGreater(short["perplexity"], whole["perplexity"])
        self.assertEqual(short["tokens"], whole["tokens"])

    def test_the_table_names_what_was_measured(self):
        out = self.done("evaluate", STORIES, "--text", "-", stdin=self.text.read_bytes())
        for words in ("perplexity ratio", "KL divergence", "top-1 agreement", "reference perplexity"):
            self.assertIn(words, out)

    def test_what_cannot_be_evaluated_is_refused(self):
        self.refused(1, "nowhere.txt", "evaluate", STORIES, "--text", "nowhere.txt")
        self.refused(1, "no token to predict", "evaluate", STORIES, "--text", "-")
        self.refused(1, "UTF-8", "evaluate", STORIES, "--text", "-", stdin=b"\xff")
        self.refused(1, "--window: expected 2 to 512", "evaluate", STORIES, "--text", self.text, "--window", "513")
        self.refused(1, "has no tokenizer", "evaluate", TINY, "--text", self.text)


class Bench(OctetTest):
    WORDS = ("bench", TINY, "-p", "20", "-n", "5", "-r", "1")

    def test_json_holds_the_promised_fields(self):
        seen = self.json(*self.WORDS, "--json")
        for phase, tokens in (("prefill", 20), ("decode", 5)):
            self.assertEqual(seen[phase]["tokens"], tokens)
            self.assertGreater(seen[phase]["tokens_per_second"], 0)
            self.assertGreater(seen[phase]["ceiling_fraction"], 0)
        for name in ("seconds", "gigabytes_per_second", "raw_read_gigabytes_per_second"):
            self.assertGreater(seen["load"][name], 0)
        self.assertIn("memory", seen)
        self.assertIn("machine", seen)

    def test_the_table_shows_speed_ceiling_load_and_memory(self):
        out = self.done(*self.WORDS)
        for words in (r"prefill +20 ", r"decode +5 ", r"of the ceiling", r"load +.* GB/s", r"memory +weights ", r"machine +"):
            self.assertRegex(out, words)

    def test_a_batch_is_measured_beside_one_sequence(self):
        self.assertIsNone(self.json(*self.WORDS, "--json")["batch_decode"])
        words = ("bench", TINY, "-p", "20", "-n", "40", "-r", "2", "-b", "4")
        result = self.json(*words, "--json")
        batch = result["batch_decode"]
        self.assertEqual((batch["sequences"], batch["tokens"]), (4, 40))
        self.assertAlmostEqual(batch["of_one_sequence"], batch["tokens_per_second"] / result["decode"]["tokens_per_second"], places=6)
        self.assertGreater(batch["ceiling_fraction"], 0)
        out = self.done(*words)
        self.assertRegex(out, r"batch decode +40 ")
        self.assertRegex(out, r"batch +4 sequences together give [0-9.]+ times the tokens of one")

    def test_a_batch_whose_first_sequence_ends_before_the_last_begins_is_refused(self):
        self.refused(1, "the first of 60 sequences had its 2 new tokens before the last began", "bench", TINY, "-p", "100", "-n", "2", "-b", "60")

    def test_a_batch_of_nothing_is_refused(self):
        self.refused(2, "--batch-size: expected a number from 1 to 65536", "bench", TINY, "-b", "0")

    def test_a_default_prompt_fits_a_short_context(self):
        self.assertEqual(self.json("bench", TINY, "-n", "8", "-r", "1", "--json")["prefill"]["tokens"], 128 - 9)

    def test_a_prompt_that_does_not_fit_is_refused(self):
        self.refused(1, "need a context of 209 tokens, the model has 128", "bench", TINY, "-p", "200", "-n", "8")

    def test_dummy_weights_can_be_measured(self):
        copy = self.copy_of(TINY)
        (copy / "model.safetensors").unlink()
        self.assertGreater(self.json("bench", copy, "-r", "1", "-n", "4", "--load-format", "dummy", "--json")["decode"]["tokens_per_second"], 0)


if __name__ == "__main__":
    main()
