# SPDX-License-Identifier: Apache-2.0
"""Help that teaches, and wrong usage: exit code 2 and one message."""

import unittest

from harness import TINY, OctetTest, main

COMMANDS = ("generate", "chat", "inspect", "tokenize", "logits", "evaluate", "bench", "quantize")


class Help(OctetTest):
    def test_the_program_alone_teaches_its_commands_with_examples(self):
        out = self.done()
        for command in COMMANDS:
            self.assertRegex(out, rf"\n  {command} +[A-Z]")
        self.assertIn("Examples:\n  octet generate -p ", out)
        self.assertEqual(self.done("--help"), out)
        self.assertEqual(self.done("help"), out)

    def test_each_command_explains_itself_with_examples(self):
        for command in COMMANDS:
            out = self.done(command, "--help")
            self.assertIn("Examples:", out)
            self.assertIn(f"  octet {command} ", out)
            self.assertEqual(self.done("help", command), out)

    def test_commands_that_are_not_there_are_not_offered(self):
        out = self.done("--help")
        self.assertNotIn("serve", out)

    def test_the_version_names_build_and_kernels(self):
        out = self.done("--version")
        self.assertRegex(out, r"^octet \d+\.\d+\.\d+\n")
        self.assertRegex(out, r"built by +\S+ \d+")
        self.assertRegex(out, r"kernels +portable")


class WrongUsage(OctetTest):
    def test_an_unknown_command_is_refused_with_the_known_ones(self):
        self.refused(2, "unknown command \"frobnicate\"; the commands are generate, .*inspect", "frobnicate")
        self.refused(2, "unknown command \"frobnicate\"", "help", "frobnicate")

    def test_an_unknown_option_is_refused_with_where_to_look(self):
        self.refused(2, "--frobnicate.*\n`octet generate --help` explains", "generate", TINY, "--frobnicate")

    def test_a_missing_prompt_is_refused(self):
        self.refused(2, "give a prompt", "generate", TINY)
        self.refused(2, "give --ids", "logits", TINY)
        self.refused(2, "--text is required", "evaluate", TINY)
        self.refused(2, "give a TEXT", "tokenize")

    def test_a_text_that_is_a_folder_is_taken_for_a_forgotten_text(self):
        self.refused(2, "is a folder.*give a TEXT after it", "tokenize", TINY)

    def test_a_text_beside_messages_is_refused(self):
        self.refused(2, "found a text as well", "tokenize", TINY, "Hello", "--messages", "x.json")

    def test_ids_that_are_none_are_refused(self):
        for ids in ("1,x", "1,,2", "-1", "1.5", "99999999999", ""):
            self.refused(2, "--prompt-ids: expected token ids separated by commas", "generate", TINY, "--prompt-ids", ids)
        self.refused(2, "--ids: expected token ids", "logits", TINY, "--ids", "one")
        self.refused(2, "--decode: expected token ids", "tokenize", TINY, "--decode", "one")

    def test_two_prompts_are_refused(self):
        self.refused(2, "excludes", "generate", TINY, "-p", "a", "--prompt-ids", "1")

    def test_quiet_and_verbose_are_refused_together(self):
        self.refused(2, "excludes", "generate", TINY, "--prompt-ids", "1", "--quiet", "--verbose")

    def test_numbers_out_of_range_are_refused_with_the_range(self):
        words = ("generate", TINY, "--prompt-ids", "1")
        for option, value in (("--temperature", "-1"), ("--top-p", "1.5"), ("--top-k", "-1"), ("--min-p", "2"), ("-n", "0"),
                              ("--threads", "0"), ("--threads", "1025"), ("--threads", "1000000"), ("--max-model-len", "0"), ("--max-num-seqs", "0"),
                              ("--tensor-parallel-size", "0"), ("--temperature", "nan"), ("--seed", "-1"), ("--seed", "x")):
            name = "--max-tokens" if option == "-n" else option
            self.refused(2, f"{name}: expected a number from .* to .*, found \"{value}\"", *words, option, value)

    def test_names_out_of_a_table_are_refused_with_the_table(self):
        words = ("generate", TINY, "--prompt-ids", "1")
        for option, names in (("--quantization", "none.fp8.fp8_per_tensor.fp8_per_channel.fp8_per_block"),
                              ("--activation-scheme", "auto.none.dynamic.static"), ("--fp8-format", "e4m3.e5m2"),
                              ("--numerics", "vllm.compressed-tensors"), ("--dtype", "auto.float32.bfloat16.float16"),
                              ("--kv-cache-dtype", "auto.fp8"), ("--load-format", "auto.dummy"), ("--isa", "auto.portable")):
            self.refused(2, f"{option}: expected {names}.*found \"frob\"", *words, option, "frob")

    def test_sizes_that_are_none_are_refused(self):
        for size in ("many", "-1", "1X", "1KiBB", "", "1e400"):
            self.refused(2, "--kv-cache-memory: expected a size such as 2GiB", "generate", TINY, "--prompt-ids", "1",
                         "--kv-cache-memory", size)


if __name__ == "__main__":
    main()
