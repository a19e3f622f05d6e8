# SPDX-License-Identifier: Apache-2.0
"""Closed pipes, full disks, Ctrl-C: the right exit code, nothing half-written, no hang."""

import os
import pathlib
import pty
import re
import signal
import subprocess
import time
import unittest

import harness
from harness import TIMEOUT, TINY, OctetTest, main

ENDLESS = ("--ignore-eos", "-n", "1000000")


class FullDisks(OctetTest):
    def full(self):
        return self.need(pathlib.Path("/dev/full"))

    def test_standard_output_on_a_full_disk_is_an_error(self):
        with open(self.full(), "wb") as full:
            for words in (("generate", TINY, "--prompt-ids", "1", "-n", "2"), ("inspect", TINY), ("--help",), ("--version",),
                          ("logits", TINY, "--ids", "1", "--json")):
                result = self.octet(*words, stdout=full)
                self.assertEqual(result.returncode, 1, words)
                self.assertIn("standard output: cannot write: No space left on device", result.err)

    def test_files_on_a_full_disk_are_an_error(self):
        full = self.full()
        self.refused(1, "/dev/full: cannot write: No space left", "logits", TINY, "--ids", "1", "--output", full)
        self.refused(1, "/dev/full: cannot write: No space left", "generate", TINY, "--prompt-ids", "1", "--load-report", full)

    def test_a_file_that_cannot_be_written_is_refused_before_loading(self):
        missing = self.folder / "nowhere" / "report.json"
        result = self.refused(1, "nowhere/report.json: cannot create", "generate", TINY, "--prompt-ids", "1", "--load-report", missing)
        self.assertNotIn("loading", result.err)
        result = self.refused(1, "cannot create", "logits", TINY, "--ids", "1", "--output", self.folder / "nowhere" / "x.npy")
        self.assertNotIn("loading", result.err)
        self.refused(1, "it is a folder", "logits", TINY, "--ids", "1", "--output", self.folder)

    def test_a_run_that_fails_leaves_no_file(self):
        target = self.folder / "out"
        target.mkdir()
        self.refused(1, "found 131", "logits", TINY, "--ids", "1,131", "--output", target / "x.npy")
        self.assertEqual(list(target.iterdir()), [])

    def test_an_old_file_stays_until_the_new_one_is_whole(self):
        old = self.folder / "x.npy"
        old.write_text("old")
        self.refused(1, "found 131", "logits", TINY, "--ids", "131", "--output", old)
        self.assertEqual(old.read_text(), "old")
        self.done("logits", TINY, "--ids", "1", "--output", old)
        self.assertEqual(old.read_bytes()[:6], b"\x93NUMPY")


class ClosedPipes(OctetTest):
    def test_a_reader_that_leaves_ends_the_work_quietly(self):
        read, write = os.pipe()
        os.close(read)
        for words in (("generate", TINY, "--prompt-ids", "1", "-n", "2", "--quiet"), ("inspect", TINY), ("--help",)):
            result = self.octet(*words, stdout=write)
            self.assertEqual((result.returncode, result.err), (0, ""), words)
        os.close(write)


class CtrlC(OctetTest):
    def interrupted(self, process, signals=(signal.SIGINT,)):
        for number in signals:
            process.send_signal(number)
        out, err = process.communicate(timeout=TIMEOUT)
        return process.returncode, out.decode(), err.decode()

    def wait_until_caught(self, process):
        """Until the process, which says nothing before it reads, has its handler of SIGINT."""
        status = pathlib.Path(f"/proc/{process.pid}/status")
        end = time.monotonic() + TIMEOUT
        while time.monotonic() < end:
            caught = int(re.search(r"SigCgt:\s*([0-9a-f]+)", status.read_text())[1], 16)
            if caught & 1 << (signal.SIGINT - 1):
                return
            time.sleep(0.01)
        self.fail("no handler of SIGINT")

    def big_dummy(self):
        """The config of a model that takes a while to fill: half a billion weights."""
        copy = self.copy_of(TINY, num_hidden_layers=24, hidden_size=1024, intermediate_size=4096, num_attention_heads=16,
                            num_key_value_heads=16, head_dim=64)
        (copy / "model.safetensors").unlink()
        return copy

    def test_during_loading_ends_with_130_and_leaves_no_report(self):
        report = self.folder / "report.json"
        process = self.start("generate", self.big_dummy(), "--load-format", "dummy", "--prompt-ids", "1", "--load-report", report)
        self.assertIn(b"loading", process.stderr.readline())
        code, out, err = self.interrupted(process)
        self.assertEqual((code, out), (130, ""), err)
        self.assertIn("octet: error: stopped", err)
        self.assertEqual(sorted(path.name for path in self.folder.iterdir()), ["model"])

    def test_during_generation_ends_with_130(self):
        copy = self.copy_of(TINY, max_position_embeddings=1 << 20)
        for number in (signal.SIGINT, signal.SIGTERM):
            process = self.start("generate", copy, "--prompt-ids", "1", "--max-model-len", "200000", *ENDLESS)
            self.assertIn(b"loading", process.stderr.readline())
            time.sleep(1)
            code, _, err = self.interrupted(process, (number,))
            self.assertEqual(code, 130, err)

    def test_inside_a_measurement_ends_with_130(self):
        copy = self.copy_of(TINY, max_position_embeddings=1 << 20)
        text = self.folder / "long.txt"
        text.write_text("It was the best of times, it was the worst of times. " * 100000)
        for words in (("bench", copy, "-p", "8", "-n", "150000", "-r", "1", "--max-model-len", "200000"),
                      ("evaluate", "--text", text), ("evaluate", "--text", text, "--no-reference")):
            process = self.start(*words)
            self.assertIn(b"loading", process.stderr.readline())
            time.sleep(1)
            code, out, err = self.interrupted(process)
            self.assertEqual((code, out), (130, ""), err)

    def test_while_waiting_for_input_ends_with_130(self):
        process = self.start("tokenize", TINY, "-")
        self.wait_until_caught(process)
        code, _, err = self.interrupted(process)
        self.assertEqual(code, 130, err)


class Progress(OctetTest):
    def test_lines_elsewhere_and_none_when_quiet(self):
        words = ("generate", TINY, "--prompt-ids", "1", "-n", "1")
        result = self.octet(*words)
        self.assertRegex(result.err, r"loading 100 %  .* of .*, .* GB/s, memory .* of .* planned\n")
        self.assertNotIn("\r", result.err)
        self.assertNotIn("\033", result.err)
        self.assertEqual(self.octet(*words, "--quiet").err, "")

    def on_terminal(self, *words):
        """What standard error shows where it is a terminal."""
        leader, follower = pty.openpty()
        process = subprocess.Popen([harness.program, *map(str, words)], stdout=subprocess.DEVNULL, stderr=follower,
                                   stdin=subprocess.DEVNULL, env=self.environment)
        os.close(follower)
        shown = b""
        while True:
            try:
                piece = os.read(leader, 65536)
            except OSError:  # the other end is closed
                break
            if not piece:
                break
            shown += piece
        os.close(leader)
        process.wait(timeout=TIMEOUT)
        return shown.decode()

    def test_a_bar_on_a_terminal(self):
        shown = self.on_terminal("generate", TINY, "--prompt-ids", "1", "-n", "1")
        self.assertRegex(shown, r"\r\033\[Kloading \[[#.]{24}\] \d+ %")

    def test_errors_are_red_on_a_terminal_unless_unwanted(self):
        self.environment["TERM"] = "xterm"
        self.environment.pop("NO_COLOR", None)
        self.assertIn("\033[31m", self.on_terminal("frobnicate"))
        self.environment["NO_COLOR"] = "1"
        self.assertNotIn("\033", self.on_terminal("frobnicate"))


if __name__ == "__main__":
    main()
