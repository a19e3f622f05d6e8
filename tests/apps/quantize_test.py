# SPDX-License-Identifier: Apache-2.0
"""`octet quantize` as a user meets it: what is in the folder, what is refused, and what a full disk, an error or Ctrl-C
leaves behind: nothing."""

import json
import resource
import shutil
import signal
import subprocess
import sys
import time
import unittest

from harness import DEMO, EXACT, GOLDEN, SOURCE, TINY, OctetTest, main

UNTIED = GOLDEN / "qwen3"


class Quantize(OctetTest):
    def setUp(self):
        super().setUp()
        self.place = self.folder / "place"
        self.place.mkdir()
        self.out = self.place / "out"

    def logits(self, model, *options):
        return self.json("logits", model, "--ids", "1,2,3", "--json", *options)

    def left(self):
        return sorted(path.name for path in self.place.iterdir())

    def test_the_folder_loads_like_the_model_quantized_on_the_fly(self):
        for options in (("--format", "raw"), ("--format", "compressed-tensors"), ("--format", "fp8", "--quantization", "fp8_per_tensor"),
                        ("--format", "fp8-block", "--quantization", "fp8_per_block")):
            with self.subTest(options=options):
                self.done("quantize", DEMO, self.out, "--overwrite", *options)
                self.assertEqual(self.logits(self.out), self.logits(DEMO, *options[2:]))

    def test_other_files_go_with_it_byte_for_byte(self):
        self.done("quantize", DEMO, self.out)
        for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json", "README.md"):
            self.assertEqual((self.out / name).read_bytes(), (DEMO / name).read_bytes(), name)
        self.assertEqual(sorted(path.name for path in self.out.iterdir()), sorted(path.name for path in DEMO.iterdir()))
        self.assertEqual(self.left(), ["out"])
        self.assertTrue(self.done("generate", self.out, "-p", "The sea", "-n", "4", "--temperature", "0"))

    def test_the_rest_of_the_configuration_stays_as_it_was(self):
        self.done("quantize", DEMO, self.out)
        before = json.loads((DEMO / "config.json").read_text())
        after = json.loads((self.out / "config.json").read_text())
        self.assertEqual(after.pop("quantization_config")["quant_method"], "compressed-tensors")
        self.assertEqual(after, before)

    def test_shards_are_as_large_as_asked_and_their_index_covers_them(self):
        self.done("quantize", DEMO, self.out, "--max-shard-size", "1MB")
        index = json.loads((self.out / "model.safetensors.index.json").read_text())
        shards = sorted(self.out.glob("model-*.safetensors"))
        self.assertGreater(len(shards), 2)
        self.assertEqual(sorted(set(index["weight_map"].values())), [path.name for path in shards])
        self.assertIn(f"-of-{len(shards):05}.safetensors", shards[0].name)
        total = 0
        for path in shards:
            data = path.read_bytes()
            header = json.loads(data[8:8 + int.from_bytes(data[:8], "little")])
            self.assertEqual(header.pop("__metadata__"), {"format": "pt"})
            sizes = [entry["data_offsets"][1] - entry["data_offsets"][0] for entry in header.values()]
            total += sum(sizes)
            self.assertTrue(sum(sizes) <= 1e6 or len(sizes) == 1)
            for name, entry in header.items():
                width = {"F32": 4, "BF16": 2, "F8_E4M3": 1}[entry["dtype"]]
                self.assertEqual(entry["data_offsets"][0] % width, 0, name)
                self.assertEqual(index["weight_map"][name], path.name)
        self.assertEqual(index["metadata"]["total_size"], total)
        self.assertEqual(self.logits(self.out), self.logits(DEMO))

    def test_json_tells_what_was_written(self):
        report = self.json("quantize", DEMO, self.out, "--json")
        self.assertEqual({entry["name"]: entry["bytes"] for entry in report["files"]},
                         {path.name: path.stat().st_size for path in self.out.iterdir()})
        self.assertEqual(report["format"], "compressed-tensors")
        self.assertLess(report["bytes_after"], report["bytes_before"])
        for field in ("folder", "tensors", "read_bytes", "seconds", "predicted_peak_bytes", "peak_bytes", "process_peak_rss_bytes"):
            self.assertIn(field, report)

    def test_the_load_report_has_a_row_for_every_tensor(self):
        path = self.folder / "report.json"
        self.done("quantize", UNTIED, self.out, "--load-report", path)
        weights = {weight["name"]: weight for weight in json.loads(path.read_text())["weights"]}
        self.assertEqual(weights["model.layers.0.mlp.up_proj.weight"]["stored_dtype"], "F8_E4M3")
        self.assertGreater(weights["model.layers.0.mlp.up_proj.weight"]["sqnr_db"], 25)

    def test_progress_goes_to_standard_error_and_quiet_silences_it(self):
        result = self.octet("quantize", DEMO, self.out)
        self.assertRegex(result.err, "quantizing 100 %")
        self.assertRegex(result.out, "weights +[0-9.]+ MiB -> [0-9.]+ MiB")
        result = self.octet("quantize", DEMO, self.out, "--overwrite", "--quiet")
        self.assertEqual(result.err, "")

    def test_blocks_that_some_readers_misread_are_warned_of(self):
        words = ("quantize", DEMO, self.out, "--quantization", "fp8_per_block")
        self.assertRegex(self.octet(*words, "--format", "fp8-block").err, "42 matrices have sides .*transformers does not")
        self.assertNotIn("transformers", self.octet(*words, "--format", "raw", "--overwrite").err)

    def test_an_existing_folder_is_refused_unless_it_is_empty_or_to_be_replaced(self):
        self.out.mkdir()
        self.done("quantize", TINY, self.out)
        before = (self.out / "model.safetensors").read_bytes()
        self.refused(1, "is not empty.*--overwrite", "quantize", TINY, self.out, "--format", "raw")
        self.assertEqual((self.out / "model.safetensors").read_bytes(), before)
        (self.out / "note.txt").write_text("mine")
        self.done("quantize", TINY, self.out, "--format", "raw", "--force")
        self.assertFalse((self.out / "note.txt").exists())
        self.assertNotEqual((self.out / "model.safetensors").read_bytes(), before)
        self.assertEqual(self.left(), ["out"])

    def test_only_the_folder_of_a_model_is_replaced(self):
        self.out.mkdir()
        (self.out / "note.txt").write_text("mine")
        self.refused(1, "has no config.json", "quantize", TINY, self.out, "--overwrite")
        self.assertEqual((self.out / "note.txt").read_text(), "mine")
        copy = self.copy_of(TINY)
        self.refused(1, "is the model that is read", "quantize", copy, copy, "--overwrite")
        file = self.place / "file"
        file.write_text("mine")
        self.refused(1, "found a file", "quantize", TINY, file)
        self.refused(1, "no/such/out: cannot be written", "quantize", TINY, self.place / "no" / "such" / "out")

    def test_a_format_that_cannot_say_it_is_refused_before_a_byte_is_written(self):
        self.refused(1, "--format fp8 cannot say it.*one scale per matrix", "quantize", TINY, self.out, "--format", "fp8")
        self.refused(1, "raw cast", "quantize", TINY, self.out, "--raw-cast")
        self.refused(2, "--format", "quantize", TINY, self.out, "--format", "gguf")
        self.refused(2, "--max-shard-size", "quantize", TINY, self.out, "--max-shard-size", "0")
        self.refused(2, "OUT is required", "quantize", TINY)
        self.assertEqual(self.left(), [])

    def test_a_limit_on_the_size_of_files_is_one_error_wherever_it_strikes(self):
        """Stands for a full disk: every write beyond the limit fails."""
        self.done("quantize", TINY, self.out, "--format", "raw")
        size = (self.out / "model.safetensors").stat().st_size
        target = self.place / "again"
        for limit in [0, 1, 7, 100, *range(512, size, size // 9), size - 1]:
            with self.subTest(limit=limit):
                process = self.start("quantize", TINY, target, "--format", "raw", "--quiet",
                                     preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
                _, err = process.communicate(timeout=120)
                self.assertEqual(process.returncode, 1, err)
                self.assertEqual(err.count(b"octet: error:"), 1, err)
                self.assertRegex(err, rb"safetensors: writing failed: .*; nothing was left behind")
                self.assertEqual(self.left(), ["out"])

    def test_a_disk_that_is_too_small_is_told_of_beforehand(self):
        copy = self.folder / "huge"
        copy.mkdir()
        config = json.loads((TINY / "config.json").read_text())
        config.update(vocab_size=1 << 26, hidden_size=4096, tie_word_embeddings=False)
        (copy / "config.json").write_text(json.dumps(config))
        self.refused(1, "needs [0-9]+ MiB on the disk, but only [0-9]+ MiB are free", "quantize", copy, self.out,
                     "--load-format", "dummy")
        self.assertEqual(self.left(), [])

    def test_values_that_cannot_be_stored_leave_nothing_behind(self):
        copy = self.copy_of(TINY)
        path = copy / "model.safetensors"
        data = bytearray(path.read_bytes())
        length = int.from_bytes(data[:8], "little")
        entry = json.loads(data[8:8 + length])["model.layers.1.mlp.up_proj.weight"]
        begin = 8 + length + entry["data_offsets"][0]
        data[begin:begin + 2] = b"\xc0\x7f"
        path.write_bytes(data)
        self.refused(1, "1 values are NaN or infinite, the first in row 0", "quantize", copy, self.out)
        self.assertEqual(self.left(), [])
        self.done("quantize", copy, self.out, "--allow-nonfinite")

    def test_ctrl_c_leaves_nothing_behind(self):
        copy = self.folder / "large"
        subprocess.run([sys.executable, str(SOURCE / "tools" / "make_random_checkpoint.py"), "llama-3.2-1b", str(copy),
                        "--layers", "1"], check=True, capture_output=True)
        interrupted = 0
        for delay in (0.05, 0.3, 0.02, 0.1, 0.05):
            process = self.start("quantize", copy, self.out, "--fp8-embedding")
            time.sleep(delay)
            for _ in range(200):
                if process.poll() is not None or any(path.suffix != "" for path in self.place.iterdir()):
                    break
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=120)
            if process.returncode == 0:  # it was faster than the signal
                shutil.rmtree(self.out)
                continue
            interrupted += 1
            self.assertEqual(process.returncode, 130, err)
            self.assertIn(b"stopped", err)
            self.assertEqual(self.left(), [])
        self.assertGreater(interrupted, 0)

    def test_what_a_killed_run_left_behind_is_removed_by_the_next_and_that_of_a_living_one_is_not(self):
        copy = self.folder / "large"
        subprocess.run([sys.executable, str(SOURCE / "tools" / "make_random_checkpoint.py"), "llama-3.2-1b", str(copy),
                        "--layers", "1"], check=True, capture_output=True)

        def stopped():
            """A run that stands still in the middle of its work."""
            process = self.start("quantize", copy, self.out, "--fp8-embedding", "--threads", "1")
            self.addCleanup(process.communicate)
            self.addCleanup(process.kill)
            folder = self.place / f"out.incomplete-{process.pid}"
            while process.poll() is None and not (folder.exists() and any(folder.iterdir())):
                time.sleep(0.002)
            process.send_signal(signal.SIGSTOP)
            self.assertTrue(folder.exists(), "it was faster than the signal")
            return process, folder

        killed, left = stopped()
        living, half = stopped()
        killed.kill()
        killed.communicate()
        self.assertIn(left.name, self.left())
        result = self.octet("quantize", TINY, self.out)
        self.assertEqual(result.returncode, 0, result.err)
        self.assertRegex(result.err, f"{left.name}: was left behind by a process that was killed; removed")
        self.assertNotIn(half.name, result.err)
        self.assertEqual(self.left(), ["out", half.name])
        shutil.rmtree(self.out)
        living.send_signal(signal.SIGCONT)
        _, err = living.communicate(timeout=120)
        self.assertEqual(living.returncode, 0, err)
        self.assertEqual(self.left(), ["out"])


if __name__ == "__main__":
    main()
