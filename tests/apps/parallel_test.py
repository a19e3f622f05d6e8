# SPDX-License-Identifier: Apache-2.0
"""One model over several processes: mpirun -n N octet ... --tensor-parallel-size N."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import time

import harness
from harness import DEMO, EXACT, GOLDEN, TINY, OctetTest, main, read_npy

GREEDY = ("generate", DEMO, "-p", "It was on a dreary night", "--raw-prompt", "--temperature", "0", "-n", "16")
MIXTURES = GOLDEN.parent / "more_models"
LIMIT = 60  # seconds in which any run here must have ended


def children(pid):
    """All processes below this one that run octet."""
    found = []
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
            name = stat.read_text().split("(", 1)[1].rsplit(")", 1)[0]
        except OSError:
            continue
        if int(fields[1]) == pid:
            child = int(stat.parent.name)
            found += ([child] if name == "octet" else []) + children(child)
    return sorted(found)


class ParallelTest(OctetTest):
    def setUp(self):
        super().setUp()
        # Containers run as root, and small machines have fewer cores than ranks.
        self.environment.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
                                OMPI_MCA_rmaps_base_oversubscribe="1", OMPI_MCA_hwloc_base_binding_policy="none")
        # Open MPI keeps memory until the process ends, which is a leak to a sanitizer; Octet's own are found elsewhere.
        self.environment["ASAN_OPTIONS"] = self.environment.get("ASAN_OPTIONS", "") + ":detect_leaks=0"
        if "over MPI" not in self.done("--version"):
            self.skipTest("this build has no MPI")
        if shutil.which("mpirun") is None:
            self.skipTest("mpirun is not there")

    def command(self, ranks, words, size=None):
        size = () if size == 0 else ("--tensor-parallel-size", size or ranks)
        return list(map(str, ["mpirun", "-n", ranks, harness.program, *words, *size]))

    def ranks(self, ranks, *words, size=None, stdin=b""):
        done = subprocess.run(self.command(ranks, words, size), input=stdin, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=LIMIT, env=self.environment, check=False)
        done.out, done.err = done.stdout.decode(), done.stderr.decode()
        return done

    def done_by(self, ranks, *words, **options):
        result = self.ranks(ranks, *words, **options)
        self.assertEqual(result.returncode, 0, result.err)
        return result.out

    def refused_by(self, ranks, code, pattern, *words, **options):
        result = self.ranks(ranks, *words, **options)
        self.assertEqual(result.returncode, code, result.err)
        self.assertRegex(result.err, "octet: error: .*" + pattern)
        self.assertEqual(result.err.count("octet: error:"), 1, result.err)
        self.assertEqual(result.out, "")

    def started(self, ranks, *words):
        """A running command of which all ranks are there, and their process ids."""
        process = subprocess.Popen(self.command(ranks, words), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, env=self.environment)
        self.addCleanup(process.kill)
        end = time.monotonic() + LIMIT
        while len(children(process.pid)) < ranks and time.monotonic() < end:
            time.sleep(0.05)
        pids = children(process.pid)
        self.assertEqual(len(pids), ranks)
        return process, pids

    def ended(self, process, pids):
        """What a process said that must end by itself, leaving no rank behind."""
        out, err = process.communicate(timeout=LIMIT)
        end = time.monotonic() + 10
        while any(pathlib.Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < end:
            time.sleep(0.05)
        for pid in pids:
            self.assertFalse(pathlib.Path(f"/proc/{pid}").exists(), f"rank {pid} is still there")
        self.assertNotEqual(process.returncode, 0)
        return out.decode(), err.decode()


class ParallelRuns(ParallelTest):
    def test_greedy_text_is_that_of_one_process_and_said_once(self):
        one = self.done(*GREEDY)
        for ranks in (2, 3):
            self.assertEqual(self.done_by(ranks, *GREEDY), one, ranks)

    def test_logits_are_those_of_one_process(self):
        for model in (TINY, GOLDEN / "llama_bias", GOLDEN / "qwen3", MIXTURES / "qwen2_moe", MIXTURES / "mixtral_fused",
                      MIXTURES / "qwen3_moe", MIXTURES / "glm4_moe_lite"):
            words = ("logits", model, "--ids", "1,2,3,4,5,6,7", *EXACT, "--quiet")
            self.done(*words, "--output", self.folder / "one.npy")
            shape, one = read_npy(self.folder / "one.npy")
            for ranks in (2, 3):
                self.done_by(ranks, *words, "--output", self.folder / "many.npy")
                other, many = read_npy(self.folder / "many.npy")
                self.assertEqual(other, shape)
                largest = max(map(abs, one))
                self.assertLess(max(abs(a - b) for a, b in zip(one, many)), 1e-5 * largest, (model.name, ranks))

    def test_each_rank_reports_what_it_read_and_held(self):
        report = self.folder / "report.json"
        self.done(*GREEDY, "--quantization", "none", "--load-report", report)
        one = json.loads(report.read_text())
        self.done_by(2, *GREEDY, "--quantization", "none", "--load-report", report)
        reports = [json.loads(path.read_text()) for path in (report, self.folder / "report.json.rank1")]
        self.assertEqual([r["rank"] for r in reports], [0, 1])
        for each in reports:
            self.assertEqual(each["world_size"], 2)
            self.assertLess(each["read_bytes"], 0.51 * one["read_bytes"])
            self.assertLess(each["final_bytes"], 0.52 * one["final_bytes"])  # norms and padded panels are not halved
            self.assertEqual(each["final_bytes"], each["predicted_final_bytes"])
            self.assertLessEqual(each["peak_bytes"], each["final_bytes"] + (64 << 20))
        self.assertFalse((self.folder / "report.json.rank2").exists())

    def test_quantize_writes_the_files_of_one_process(self):
        for options in (("--format", "raw", "--quantization", "fp8_per_block"), ("--fp8-lm-head", "--max-shard-size", "1MB")):
            files = []
            for ranks, name in ((1, "one"), (2, "two")):
                words = ("quantize", DEMO, self.folder / name, "--overwrite", *options)
                self.done(*words) if ranks == 1 else self.done_by(ranks, *words)
                files.append({path.name: path.read_bytes() for path in (self.folder / name).iterdir()})
            self.assertEqual(files[0], files[1], options)
        result = self.ranks(2, "quantize", DEMO, self.folder / "one")
        self.assertEqual(result.returncode, 1, result.err)
        self.assertEqual(result.err.count("is not empty"), 1, result.err)

    def test_quantize_writes_the_files_of_one_process_for_mixtures_and_for_tied_and_untied_tables(self):
        for model in (TINY, GOLDEN / "qwen3", MIXTURES / "qwen2_moe", MIXTURES / "mixtral_fused", MIXTURES / "glm4_moe_lite"):
            for options in (("--quantization", "fp8_per_block"), ("--quantization", "fp8_per_tensor", "--fp8-lm-head")):
                with self.subTest(model=model.name, options=options):
                    words = ("quantize", model, "--format", "raw", "--overwrite", "--quiet", *options)
                    self.done(*words, self.folder / "one")
                    self.done_by(2, *words, self.folder / "two")
                    files = [{path.name: path.read_bytes() for path in (self.folder / name).iterdir()} for name in ("one", "two")]
                    self.assertIn("model.safetensors", files[0])
                    self.assertEqual(files[0], files[1])

    def digests_are_those_of_one_process(self, model, *storage):
        report = self.folder / "report.json"
        words = ("generate", model, "--prompt-ids", "1,2", "-n", "1", "--digest", "--load-report", report, *storage)
        self.done(*words)
        one = json.loads(report.read_text())["digests"]
        self.assertGreater(len(one), 10)
        for ranks in (2, 3):
            self.done_by(ranks, *words)
            self.assertEqual(json.loads(report.read_text())["digests"], one, (model.name, ranks))

    def test_digests_are_those_of_one_process(self):
        for storage in (("--quantization", "fp8_per_block"), ("--fp8-lm-head",)):
            self.digests_are_those_of_one_process(DEMO, *storage)

    def test_digests_of_mixtures_are_those_of_one_process(self):
        for name in ("qwen2_moe", "mixtral_fused", "qwen3_moe_transposed", "glm4_moe_lite"):
            self.digests_are_those_of_one_process(MIXTURES / name, "--quantization", "fp8_per_block", "--fp8-embedding")

    def test_evaluate_finds_what_one_process_finds(self):
        text = self.folder / "text.txt"
        text.write_text("It was on a dreary night of November that I beheld the accomplishment of my toils. " * 8)
        words = ("evaluate", DEMO, "--text", text, "--window", "64", "--json")
        one = json.loads(self.done(*words))
        two = json.loads(self.done_by(2, *words))
        self.assertEqual(two["tokens"], one["tokens"])
        for measure in ("perplexity", "reference_perplexity"):
            self.assertAlmostEqual(two[measure] / one[measure], 1, delta=0.01)
        self.assertLess(two["kl_divergence"], 2 * one["kl_divergence"] + 0.01)

    def test_bench_measures(self):
        result = json.loads(self.done_by(2, "bench", TINY, "-p", "8", "-n", "4", "-r", "1", "--json"))
        self.assertGreater(result["decode"]["tokens_per_second"], 0)

    def test_a_conversation_reads_the_input_of_rank_0(self):
        words = ("chat", DEMO, "--temperature", "0", "-n", "6")
        lines = b"Hello there.\nAnd now?\n"
        result = self.octet(*words, stdin=lines)
        if result.returncode != 0:
            self.skipTest("the bundled model has no chat template")
        self.assertEqual(self.done_by(2, *words, stdin=lines), result.out)


class ParallelPlans(OctetTest):
    def test_inspect_shows_the_share_of_every_rank_without_starting_any(self):
        one = self.json("inspect", DEMO, "--json")
        ranks = self.json("inspect", DEMO, "--tensor-parallel-size", "3", "--json")["ranks"]
        self.assertEqual([entry["rank"] for entry in ranks], [0, 1, 2])
        held = sum(entry["plan"]["final_bytes"] for entry in ranks)
        whole = one["plan"]["final_bytes"]
        self.assertGreaterEqual(held, whole)
        self.assertLess(held, 1.15 * whole)
        self.assertRegex(self.done("inspect", DEMO, "--tensor-parallel-size", "2"), r"rank +to read[^\n]*\n +0 [^\n]*\n +1 ")


class ParallelErrors(ParallelTest):
    def test_one_process_alone_is_told_how_to_start_more(self):
        self.refused(2, "--tensor-parallel-size 2: expected 2 processes, found 1; start it with mpirun -n 2 octet",
                     *GREEDY, "--tensor-parallel-size", "2")

    def test_processes_that_the_options_do_not_ask_for_are_refused_once(self):
        self.refused_by(2, 2, "--tensor-parallel-size 1: expected 1 process, found 2; start it with mpirun -n 2 octet",
                        *GREEDY, size=0)
        self.refused_by(2, 2, "--tensor-parallel-size 3: expected 3 processes, found 2", *GREEDY, size=3)

    def test_an_error_of_all_ranks_is_said_once(self):
        self.refused_by(2, 1, "no such folder", "generate", self.folder / "nowhere", "--prompt-ids", "1")
        self.refused_by(2, 2, "give a prompt", "generate", TINY)

    def test_more_ranks_than_heads_are_refused(self):
        self.refused_by(4, 1, "llama_float32|this model has 3 attention heads, and every rank needs one; take at most 3",
                        "generate", GOLDEN / "llama_float32", "--prompt-ids", "1")

    def test_a_broken_file_ends_all_ranks_with_its_error(self):
        copy = self.copy_of(TINY)
        weights = copy / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-8])
        self.refused_by(2, 1, "model.safetensors", "generate", copy, "--prompt-ids", "1")

    def test_an_error_of_another_rank_alone_is_said_by_rank_0(self):
        report = self.folder / "report.json"
        (self.folder / "report.json.rank1").mkdir()
        self.refused_by(2, 1, "rank 1: .*report.json.rank1: cannot write: it is a folder", *GREEDY, "--load-report", report)
        self.assertFalse(report.exists())


class ParallelReads(ParallelTest):
    """A disk that fails under one rank while the model is opened and loaded."""

    WORDS = ("generate", TINY, "--prompt-ids", "1,2", "-n", "1", "--quiet", "--quantization", "fp8_per_tensor", "--threads", "1")

    def sweep(self, rank):
        """Reads at growing distances, until a run is whole because it has fewer: each one in turn fails in
        tests/llm/load_faults_test.cpp, where ranks are threads."""
        number, step = 1, 1
        while number < 10000:
            self.fail_read(number, rank=rank)
            result = self.ranks(2, *self.WORDS)
            if result.returncode == 0:
                break
            self.assertEqual(result.returncode, 1, result.err)
            self.assertEqual(result.err.count("octet: error:"), 1, result.err)
            self.assertRegex(result.err, r"model\.safetensors: reading \d+ bytes at offset \d+ failed: Input/output error")
            self.assertEqual(result.out, "")
            number, step = number + step, 2 * step
        self.assertIn(number, range(60, 10000))

    def test_reads_that_fail_on_the_first_rank_end_all_with_that_error(self):
        self.sweep(0)

    def test_reads_that_fail_on_another_rank_end_all_with_that_error(self):
        self.sweep(1)

    def test_a_read_that_fails_ends_quantizing_and_leaves_nothing(self):
        for number in (1, 2, 3, 10, 20):
            self.fail_read(number)
            self.refused_by(2, 1, "Input/output error", "quantize", TINY, self.folder / "out", "--quiet")
            self.assertEqual(list(self.folder.iterdir()), [])

    def test_a_rank_that_dies_while_it_loads_ends_all(self):
        for rank, number in ((0, 5), (1, 1), (1, 12)):
            self.fail_read(number, "kill", rank)
            result = self.ranks(2, *self.WORDS)
            self.assertNotEqual(result.returncode, 0)
            self.assertIn("signal 9", result.err)
            self.assertEqual(result.out, "")


class ParallelEnds(ParallelTest):
    CHAT = ("chat", DEMO, "--quiet")

    def waiting(self):
        """Two ranks of which the first waits for a line and the other for an order."""
        process, pids = self.started(2, *self.CHAT)
        time.sleep(2)
        self.assertIsNone(process.poll())
        return process, pids

    def test_a_killed_rank_ends_all(self):
        for victim in (0, 1):
            process, pids = self.waiting()
            os.kill(pids[victim], signal.SIGKILL)
            self.ended(process, pids)

    def test_an_interrupt_of_the_launcher_ends_all(self):
        process, pids = self.waiting()
        process.send_signal(signal.SIGINT)
        _, err = self.ended(process, pids)
        self.assertLessEqual(err.count("octet: error:"), 1, err)

    def stopped_by_another_rank(self, process, pids):
        time.sleep(2)
        os.kill(pids[1], signal.SIGINT)
        _, err = self.ended(process, pids)
        self.assertEqual(process.returncode, 130, err)
        self.assertEqual(err.count("octet: error:"), 1, err)
        self.assertIn("octet: error: stopped", err)

    def test_an_interrupt_of_another_rank_ends_all_while_they_compute(self):
        self.stopped_by_another_rank(*self.started(2, "bench", DEMO, "-p", "8", "-n", "400", "-r", "1000"))

    def test_an_interrupt_of_another_rank_ends_all_while_rank_0_waits_for_a_line(self):
        self.stopped_by_another_rank(*self.waiting())


if __name__ == "__main__":
    main()
