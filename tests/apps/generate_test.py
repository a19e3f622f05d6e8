# SPDX-License-Identifier: Apache-2.0
"""`octet generate`: text, ids, sampling, stops, JSON."""

import json
import shutil
import subprocess
import unittest

import harness
from harness import DEMO, EXACT, GOLDEN, STORIES, TINY, OctetTest, ids_text, main

GREEDY = ("--temperature", "0")


class GenerateIds(OctetTest):
    def test_greedy_ids_are_those_of_transformers(self):
        for model in sorted(GOLDEN.iterdir()):
            greedy = json.loads((model / "golden.json").read_text())["greedy"]
            out = self.done("generate", model, "--prompt-ids", ids_text(greedy["prompt"]), "-n", len(greedy["ids"]),
                            "--ignore-eos", *GREEDY, *EXACT)
            self.assertEqual(out, ids_text(greedy["ids"]) + "\n", model.name)

    def test_json_holds_the_promised_fields(self):
        run = self.json("generate", TINY, "--prompt-ids", "1,2,3", "-n", "5", "--ignore-eos", "--json", *GREEDY)
        self.assertEqual(run["prompt_ids"], [1, 2, 3])
        self.assertEqual(len(run["ids"]), 5)
        self.assertEqual((run["text"], run["finish_reason"]), ("", "length"))
        for name in ("load_seconds", "prefill_seconds", "decode_seconds", "tokens_per_second"):
            self.assertGreater(run["timings"][name], 0, name)
        for name in ("weights_bytes", "kv_cache_bytes", "peak_bytes"):
            self.assertGreater(run["memory"][name], 0, name)
        self.assertGreaterEqual(run["memory"]["peak_bytes"], run["memory"]["weights_bytes"] + run["memory"]["kv_cache_bytes"])

    def test_the_summary_says_what_was_quantized_and_what_it_took(self):
        result = self.octet("generate", TINY, "--prompt-ids", "1,2,3", "-n", "2")
        self.assertRegex(result.err, r"quantized +\d+ matrices to F8_E4M3, .*: .* -> .*, SQNR \d+\.\d dB")
        self.assertRegex(result.err, r"memory +weights .*, peak while loading .* \(planned .*\), KV cache .* for 128 tokens")
        self.assertRegex(result.err, r"loaded +.* GB/s")
        self.assertRegex(result.err, r"prompt +3 tokens in .* tokens/s")
        self.assertRegex(result.err, r"answer +2 tokens in .* tokens/s, ended by length")

    def test_generation_ends_at_the_context(self):
        run = self.json("generate", TINY, "--prompt-ids", "1,2,3", "-n", "500", "--ignore-eos", "--json")
        self.assertEqual(len(run["ids"]), 128 - 3)
        self.assertEqual(run["finish_reason"], "length")

    def test_an_eos_id_of_generation_config_ends_the_text_unless_ignored(self):
        greedy = json.loads((TINY / "golden.json").read_text())["greedy"]
        copy = self.copy_of(TINY)
        (copy / "generation_config.json").write_text(json.dumps({"eos_token_id": [130, greedy["ids"][5]]}))
        words = ("generate", copy, "--prompt-ids", ids_text(greedy["prompt"]), "-n", "20", "--json", *GREEDY, *EXACT)
        run = self.json(*words)
        self.assertEqual((run["ids"], run["finish_reason"]), (greedy["ids"][:6], "stop"))
        run = self.json(*words, "--ignore-eos")
        self.assertEqual((run["ids"], run["finish_reason"]), (greedy["ids"], "length"))


class GenerateSampling(OctetTest):
    def ids(self, *options, model=TINY):
        return self.json("generate", model, "--prompt-ids", "1,2,3", "-n", "12", "--ignore-eos", "--json", *options)["ids"]

    def test_a_seed_repeats_the_text_and_another_changes_it(self):
        hot = ("--temperature", "2", "--seed")
        self.assertEqual(self.ids(*hot, "7"), self.ids(*hot, "7"))
        self.assertNotEqual(self.ids(*hot, "7"), self.ids(*hot, "8"))

    def test_without_a_seed_the_one_used_is_told(self):
        run = self.json("generate", TINY, "--prompt-ids", "1,2,3", "-n", "12", "--ignore-eos", "--json", "--temperature", "2")
        self.assertEqual(run["ids"], self.ids("--temperature", "2", "--seed", run["seed"]))
        self.assertIn("seed ", self.octet("generate", TINY, "--prompt-ids", "1", "-n", "1", "--verbose").err)

    def test_top_k_1_and_tiny_top_p_and_min_p_1_are_greedy(self):
        greedy = self.ids(*GREEDY)
        for option in (("--top-k", "1"), ("--top-p", "1e-9"), ("--min-p", "1")):
            self.assertEqual(self.ids("--temperature", "5", "--seed", "3", *option), greedy, option)
        self.assertNotEqual(self.ids("--temperature", "5", "--seed", "3"), greedy)

    def test_sampling_options_alone_sample_a_model_that_recommends_greedy(self):
        self.assertNotEqual(self.ids("--top-k", "100", "--seed", "3"), self.ids(*GREEDY))

    def test_generation_config_is_the_default(self):
        copy = self.copy_of(TINY)
        (copy / "generation_config.json").write_text('{"do_sample": true, "temperature": 5.0, "top_k": 0}')
        self.assertEqual(self.ids("--seed", "3", model=copy), self.ids("--seed", "3", "--temperature", "5"))
        self.assertEqual(self.ids(model=TINY), self.ids(*GREEDY))


class GenerateText(OctetTest):
    def story(self, *options, stdin=b"", prompt="Once upon a time"):
        self.need(STORIES)
        return self.done("generate", STORIES, "-p", prompt, "--raw-prompt", *GREEDY, *EXACT, *options, stdin=stdin)

    def test_the_known_story_comes_out_exactly(self):
        self.need(STORIES)
        expected = (STORIES / "expected.txt").read_text()
        out = self.story("--threads", "1")
        self.assertTrue(("Once upon a time" + out).startswith(expected.rstrip("\n")), out)

    def test_a_prompt_can_come_from_standard_input(self):
        self.assertEqual(self.story("-n", "20", prompt="-", stdin=b"Once upon a time\n"), self.story("-n", "20"))

    def test_the_text_continues_the_prompt_with_its_blank(self):
        self.assertTrue(self.story("-n", "5", prompt="Once upon a time, there").startswith(" was"))

    def test_a_stop_string_ends_the_text_and_is_no_part_of_it(self):
        whole = self.story("-n", "60")
        stopped = self.story("-n", "60", "--stop", "nothing like it", "--stop", " named Lily")
        self.assertIn(" named Lily", whole)
        self.assertEqual(stopped, whole[:whole.index(" named Lily")] + "\n")

    def test_an_empty_stop_string_is_refused(self):
        self.need(STORIES)
        self.refused(1, "stop: expected strings of at least one character", "generate", STORIES, "-p", "a", "--stop", "")

    def test_stop_strings_need_a_tokenizer(self):
        self.refused(1, "stop strings need a tokenizer", "generate", TINY, "--prompt-ids", "1", "--stop", "x")

    def test_json_has_the_text_that_is_printed_otherwise(self):
        text = self.story("-n", "20")
        run = json.loads(self.story("-n", "20", "--json"))
        self.assertEqual(run["text"] + "\n", text)
        self.assertEqual(len(run["ids"]), 20)

    def test_quiet_says_nothing_but_the_text(self):
        self.need(STORIES)
        result = self.octet("generate", STORIES, "-p", "Once", "-n", "5", "--quiet")
        self.assertEqual(result.err, "")
        self.assertNotEqual(result.out, "")


class GenerateChatPrompts(OctetTest):
    def test_a_prompt_goes_through_the_chat_template_unless_raw(self):
        self.need(DEMO / "config.json")
        words = ("generate", DEMO, "-p", "Hello", "-n", "1", "--json")
        messages = self.folder / "messages.json"
        messages.write_text(json.dumps({"messages": [{"role": "user", "content": "Hello"}], "add_generation_prompt": True}))
        rendered = self.json("tokenize", DEMO, "--messages", messages, "--json")["ids"]
        raw = self.json("tokenize", DEMO, "Hello", "--json")["ids"]
        self.assertEqual(self.json(*words)["prompt_ids"], rendered)
        self.assertEqual(self.json(*words, "--raw-prompt")["prompt_ids"], raw)
        self.assertNotEqual(rendered, raw)

    def test_without_a_model_the_bundled_one_is_used(self):
        self.need(DEMO / "config.json")
        words = ("-p", "Hello", "-n", "8", *GREEDY)
        self.assertEqual(self.done("generate", *words), self.done("generate", DEMO, *words))

    def test_an_installed_program_finds_the_model_beside_it(self):
        (self.folder / "bin").mkdir()
        shutil.copy(harness.program, self.folder / "bin" / "octet")
        shutil.copytree(TINY, self.folder / "share" / "octet" / "models" / "demo")
        out = subprocess.run([self.folder / "bin" / "octet", "inspect", "--json"], capture_output=True, check=True, timeout=60).stdout
        self.assertEqual(json.loads(out), self.json("inspect", TINY, "--json"))


if __name__ == "__main__":
    main()
