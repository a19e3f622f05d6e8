# SPDX-License-Identifier: Apache-2.0
"""bench/compare: its rounds, its table and its refusals, with stand-ins for the peers."""

import json
import mmap
import shutil
import subprocess
import sys

import harness
from harness import SOURCE, TINY, OctetTest, main

COMPARE = SOURCE / "bench" / "compare"
sys.path.insert(0, str(COMPARE))

from contenders import CompareError  # noqa: E402
from first_token import make_cold, read_alone, resident_share  # noqa: E402

# In place of the Python of the peers: writes down what it was asked and answers as they would.
STAND_IN = """#!{python}
import json, pathlib, sys
words = sys.argv[1:]
log = pathlib.Path(__file__).parents[2] / "log"
script = pathlib.Path(words[0]).name
def note(text):
    with log.open("a") as file:
        file.write(text + "\\n")
if script == "llama_convert.py":
    for name in words[2:]:
        pathlib.Path(name).write_bytes(bytes(8192))
    note("convert")
elif "--first" in words:
    note(f"first {{words[1][-9:]}} with {{words[2]}} threads")
    print(json.dumps({{"seconds": 2.0, "token": 1}}))
elif script.endswith("_peer.py"):
    print("stand-in for " + script, flush=True)
    for line in sys.stdin:
        note(script + " " + line.strip())
        if {ends}:
            break
        answer = {{"relative_error": {error}, "same_largest": 1, "positions": 16}} if line.startswith("logits") else 2.0
        print(json.dumps(answer), flush=True)
"""


class Compare(OctetTest):
    def compare(self, *words):
        command = [sys.executable, "-B", COMPARE / "compare.py", "--octet", harness.program, "--peers", self.folder / "peers",
                   "--work", self.folder / "work", *words]
        return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=harness.TIMEOUT, check=False,
                              env=self.environment)

    def says(self, pattern, *words):
        result = self.compare(*words)
        self.assertEqual(result.returncode, 1, result.stdout)
        self.assertRegex(result.stderr, "^compare.py: .*" + pattern)

    def with_peers(self, ends="False", error="0.01"):
        python = self.folder / "peers" / "venv" / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(STAND_IN.format(python=sys.executable, ends=ends, error=error))
        python.chmod(0o755)
        tiny = self.folder / "work" / "tiny"
        tiny.mkdir(parents=True)
        for name in ("config.json", "model.safetensors"):
            shutil.copy(TINY / name, tiny / name)
        return ("--shape", "tiny", "--prompt", "4", "--new", "3", "--threads", "1")

    def log(self):
        return (self.folder / "peers" / "log").read_text().splitlines()

    def record(self, *rounds):
        path = self.folder / "rounds.jsonl"
        path.write_text("".join(line + "\n" for line in rounds))
        return ("--rounds", "0", "--record", str(path))

    def test_a_peer_that_is_not_installed_is_named_with_what_installs_it(self):
        for peer in ("torch", "llama.cpp"):
            self.says(f"{peer} is not installed in .*install_peers.sh", "--peer", peer)

    def test_a_round_asks_every_peer_for_the_same_work(self):
        words = self.with_peers()
        result = self.compare(*words, "--rounds", "1", "--measure", "throughput", "--json")
        self.assertEqual(result.returncode, 0, result.stderr)
        requests = ["prefill 16", "decode 16 2", "prefill 4", "decode 4 3"]
        self.assertEqual(self.log(), ["convert"] + [f"{script} {request}" for script in
                                                    ("llama_peer.py", "llama_peer.py", "torch_peer.py")
                                                    for request in requests])
        told = json.loads(result.stdout)
        self.assertEqual(list(told["rounds"][0]["rates"]), ["Octet FP8", "Octet FP8 head", "Octet bf16", "llama.cpp Q8_0",
                                                             "llama.cpp BF16", "PyTorch bf16"])
        for peer in ("PyTorch bf16", "llama.cpp Q8_0"):
            own = told["summary"]["rates"]["Octet bf16"]["decode"]
            self.assertAlmostEqual(told["summary"]["rates_ahead"][peer]["Octet bf16"]["decode"], own / 2.0)

    def test_one_peer_alone_can_be_chosen(self):
        words = self.with_peers()
        result = self.compare(*words, "--rounds", "1", "--measure", "throughput", "--peer", "torch")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual({line.split()[0] for line in self.log()}, {"torch_peer.py"})
        self.assertRegex(result.stdout, r"PyTorch bf16 +2\.00 +1 +\d")
        self.assertNotIn("llama.cpp", result.stdout)

    def test_starts_are_measured_cold_and_warm_beside_the_peer_with_the_same_bytes(self):
        words = self.with_peers()
        result = self.compare(*words, "--rounds", "2", "--measure", "first-token", "--peer", "llama.cpp")
        if "stay in the page cache" in result.stderr:
            self.skipTest("the file system of temporary files keeps them in memory")
        self.assertEqual(result.returncode, 0, result.stderr)
        # Cold uncounted, cold, warm uncounted, warm.
        one = [f"first {kind}.gguf with 1 threads" for kind in ("BF16", "Q8_0") for _ in range(4)]
        self.assertEqual(self.log(), ["convert"] + 2 * one)
        self.assertRegex(result.stdout, r"llama.cpp BF16 +2\.00 +2\.00 .* 2 .*x of Octet FP8\n")
        self.assertRegex(result.stdout, r"llama.cpp Q8_0 +2\.00 +2\.00 .* 2 .*x of Octet exported\n")
        self.assertTrue((self.folder / "work" / "tiny-fp8" / "config.json").exists())

    def test_rounds_are_recorded_and_shown_again(self):
        words = (*self.with_peers(), "--measure", "throughput", "--peer", "torch", "--record", self.folder / "rounds")
        for _ in range(2):
            self.assertEqual(self.compare(*words, "--rounds", "1").returncode, 0)
        self.assertRegex(self.compare(*words, "--rounds", "0").stdout, r"PyTorch bf16 +2\.00 +2 ")
        self.says("no rounds", *words, "--rounds", "0", "--threads", "2")

    def test_the_table_has_medians_of_the_ratios_of_rounds(self):
        settings = {"shape": "x", "threads": 2, "prompt": 512, "new": 32}

        def entry(own, other):
            return json.dumps({"settings": settings, "machine": {"cpu": "C", "backend": "B"}, "versions": ["V"],
                               "rates": {"Octet FP8": {"prefill": own, "decode": own},
                                         "PyTorch bf16": {"prefill": other, "decode": other}}})

        result = self.compare(*self.record(entry(4, 1), entry(90, 30), entry(10, 5)), "--shape", "x")
        self.assertRegex(result.stdout, r"Octet FP8 +10\.00 +3\n +PyTorch bf16 +5\.00 +3 +3\.00x\n")

    def test_a_file_that_holds_no_rounds_is_refused(self):
        for line in ("{", "{}", "[]"):
            self.says("line 1 is not a round", *self.record(line))

    def test_numbers_without_sense_are_refused(self):
        for option, value in (("--threads", "0"), ("--prompt", "0"), ("--new", "-1"), ("--rounds", "-1")):
            result = self.compare(option, value)
            self.assertEqual(result.returncode, 2)
            self.assertIn(f"{option}: at least", result.stderr)

    def test_a_peer_that_ends_is_named_with_the_request(self):
        words = self.with_peers(ends="line.startswith('decode')")
        self.says("stand-in for torch_peer.py ended at 'decode 16 2'", *words, "--peer", "torch", "--measure", "throughput")

    def test_check_fails_where_logits_differ(self):
        words = (*self.with_peers(error="0.05"), "--check", "--peer", "llama.cpp")
        result = self.compare(*words)
        self.assertEqual(result.returncode, 1)
        self.assertRegex(result.stdout, r"BF16: logits differ by 5.00 %.*\nQ8_0: logits differ by 5.00 %")
        python = self.folder / "peers" / "venv" / "bin" / "python"
        python.write_text(python.read_text().replace("0.05", "0.01"))
        self.assertEqual(self.compare(*words).returncode, 0)


class PageCache(OctetTest):
    def setUp(self):
        super().setUp()
        self.path = self.folder / "weights"
        self.path.write_bytes(bytes(4 << 20))
        try:
            make_cold([self.path])
        except CompareError:
            self.skipTest("the file system of temporary files keeps them in memory")

    def test_a_file_is_cold_after_it_was_dropped_and_warm_after_it_was_read(self):
        self.assertLess(resident_share(self.path), 0.01)
        read_alone([self.path])
        self.assertEqual(resident_share(self.path), 1)

    def test_a_file_that_is_in_use_cannot_be_made_cold(self):
        with self.path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            self.assertEqual(sum(mapped[::mmap.PAGESIZE]), 0)
            with self.assertRaisesRegex(CompareError, "weights: .* stay in the page cache"):
                make_cold([self.path])


if __name__ == "__main__":
    main()
