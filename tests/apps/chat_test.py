# SPDX-License-Identifier: Apache-2.0
"""`octet chat`: turns, commands, one quick answer."""

import json
import unittest

from harness import DEMO, STORIES, TINY, OctetTest, main

GREEDY = ("--temperature", "0", "-n", "12", "--quiet")


class Conversations(OctetTest):
    def chat(self, *lines, options=GREEDY):
        self.need(DEMO / "config.json")
        return self.octet("chat", DEMO, *options, stdin="".join(line + "\n" for line in lines).encode())

    def saved(self, *lines, options=GREEDY):
        """The messages after these lines."""
        path = self.folder / "conversation.json"
        result = self.chat(*lines, f"/save {path}", options=options)
        self.assertEqual(result.returncode, 0, result.err)
        return json.loads(path.read_text())["messages"], result.out

    def test_lines_of_a_pipe_are_messages_and_only_answers_come_out(self):
        messages, out = self.saved("Hello", "And then?")
        self.assertEqual([message["role"] for message in messages], ["user", "assistant"] * 2)
        self.assertEqual(messages[2]["content"], "And then?")
        answers = [message["content"] for message in messages if message["role"] == "assistant"]
        self.assertEqual(out, "".join(answer if answer.endswith("\n") else answer + "\n" for answer in answers))

    def test_the_answer_knows_the_turns_before(self):
        path = self.folder / "conversation.json"
        messages, _ = self.saved("Hello", "And then?")
        path.write_text(json.dumps({"messages": messages[:3], "add_generation_prompt": True}))
        rendered = self.json("tokenize", DEMO, "--messages", path, "--json")["ids"]
        run = self.json("generate", DEMO, "--prompt-ids", ",".join(map(str, rendered)), "--json", *GREEDY)
        self.assertEqual(run["text"], messages[3]["content"])

    def test_quick_gives_one_answer(self):
        messages, _ = self.saved("Hello")
        answer = self.done("chat", DEMO, "-q", "Hello", *GREEDY)
        self.assertEqual(answer.rstrip("\n"), messages[1]["content"].rstrip("\n"))

    def test_a_system_message_comes_first_and_can_be_changed(self):
        messages, _ = self.saved("Hello", options=("--system-prompt", "Be brief.", *GREEDY))
        self.assertEqual(messages[0], {"role": "system", "content": "Be brief."})
        messages, _ = self.saved("/system Be long.", "Hello")
        self.assertEqual(messages[0], {"role": "system", "content": "Be long."})
        messages, _ = self.saved("/system", "Hello", options=("--system-prompt", "Be brief.", *GREEDY))
        self.assertEqual(messages[0]["role"], "user")

    def test_clear_forgets_all_but_the_system_message(self):
        messages, _ = self.saved("Hello", "/clear", options=("--system-prompt", "Be brief.", *GREEDY))
        self.assertEqual([message["role"] for message in messages], ["system"])

    def test_a_saved_conversation_goes_on(self):
        path = self.folder / "first.json"
        self.chat("Hello", f"/save {path}")
        messages, _ = self.saved(f"/load {path}", "And then?")
        straight, _ = self.saved("Hello", "And then?")
        self.assertEqual(messages, straight)

    def test_set_changes_how_tokens_are_chosen(self):
        _, short = self.saved("/set max_tokens 1", "Hello")
        _, long = self.saved("Hello")
        self.assertLess(len(short), len(long))
        hot = ["/set temperature 5", "/set top_k 0", "/set top_p 1", "/set min_p 0"]
        _, first = self.saved(*hot, "/set seed 1", "Hello")
        _, second = self.saved(*hot, "/set seed 2", "Hello")
        self.assertNotEqual(first, second)
        self.assertEqual(first, self.saved(*hot, "/set seed 1", "Hello")[1])

    def test_bye_ends_before_the_lines_that_follow(self):
        result = self.chat("/bye", "Hello")
        self.assertEqual((result.returncode, result.out), (0, ""))

    def test_help_lists_the_commands_on_standard_error(self):
        self.need(DEMO / "config.json")
        result = self.octet("chat", DEMO, stdin=b"/help\n")
        for command in ("/clear", "/system TEXT", "/set NAME VALUE", "/save FILE", "/load FILE", "/bye"):
            self.assertIn(command, result.err)
        self.assertEqual(result.out, "")

    def test_wrong_lines_end_a_script_with_their_message(self):
        for line, message in (("/frob", "unknown command /frob"), ("/set frob 1", "/set: expected temperature"),
                              ("/set top_p 2", "/set top_p: expected a number from 0"), ("/save", "/save: give the name of a file"),
                              ("/load nowhere.json", "nowhere.json"), ("/save /nowhere/x", "/nowhere/x: cannot create")):
            result = self.chat(line)
            self.assertEqual(result.returncode, 1, line)
            self.assertIn(message, result.err)

    def test_a_file_that_is_no_conversation_is_refused(self):
        path = self.folder / "bad.json"
        for text in ("[1]", "{\"messages\": 1}", "{\"messages\": [{\"role\": \"user\"}]}", "7"):
            path.write_text(text)
            self.assertIn("expected {\"messages\"", self.chat(f"/load {path}").err)

    def test_a_conversation_beyond_the_context_is_refused(self):
        self.assertIn("the context length is 512", self.chat("word " * 2000).err)


class Refusals(OctetTest):
    def test_a_model_without_a_template_is_refused_with_the_way_out(self):
        self.need(STORIES)
        self.refused(1, "has no chat template, which a conversation needs; `octet generate`", "chat", STORIES, "-q", "Hi")

    def test_a_model_without_a_tokenizer_is_refused(self):
        self.refused(1, "has no tokenizer", "chat", TINY, "-q", "Hi")


if __name__ == "__main__":
    main()
