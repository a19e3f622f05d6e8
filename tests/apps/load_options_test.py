# SPDX-License-Identifier: Apache-2.0
"""Each option of loading has its effect, and each contradiction its refusal."""

import ctypes
import json
import mmap
import os
import re
import shutil
import unittest

from harness import DEMO, EXACT, GOLDEN, TINY, OctetTest, ids_text, main, read_npy

UNTIED = GOLDEN / "qwen3"


class Reports(OctetTest):
    def report(self, *options, model=UNTIED):
        path = self.folder / "report.json"
        self.done("generate", model, "--prompt-ids", "1", "-n", "1", "--load-report", path, *options)
        return json.loads(path.read_text())


def drop_from_page_cache(path):
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def cached_share(path):
    """Of the file's pages, those in the page cache."""
    pages = -(-path.stat().st_size // mmap.PAGESIZE)
    marks = (ctypes.c_ubyte * pages)()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE) as mapped:
        place = ctypes.c_char.from_buffer(mapped)
        ctypes.CDLL(None).mincore(ctypes.c_void_p(ctypes.addressof(place)), ctypes.c_size_t(len(mapped)), marks)
        del place
    return sum(mark & 1 for mark in marks) / pages


class LoadReports(Reports):
    def stored(self, name, *options, model=UNTIED):
        weights = {weight["name"]: weight for weight in self.report(*options, model=model)["weights"]}
        return weights[name]

    UP = "model.layers.0.mlp.up_proj.weight"
    HEAD = "lm_head.weight"
    TABLE = "model.embed_tokens.weight"

    def test_it_has_the_promised_fields_and_a_row_for_every_tensor(self):
        report = self.report()
        for name in ("predicted_final_bytes", "predicted_peak_bytes", "final_bytes", "peak_bytes", "process_peak_rss_bytes",
                     "process_rss_before_bytes", "read_bytes", "seconds", "missing", "unused", "timeline"):
            self.assertIn(name, report)
        self.assertEqual(report["predicted_final_bytes"], report["final_bytes"])
        tensors = self.json("inspect", UNTIED, "--tensors", "--json")["tensors"]
        self.assertEqual(sorted(weight["name"] for weight in report["weights"]), sorted(tensor["name"] for tensor in tensors))
        for field in ("source_dtype", "stored_dtype", "shape", "scale_shape", "bytes", "elements", "sqnr_db", "zero_fraction"):
            self.assertIn(field, report["weights"][0])

    def test_quantization_says_what_shares_a_scale(self):
        up = self.stored(self.UP)
        rows = up["shape"][0]
        self.assertEqual((up["stored_dtype"], up["scale_shape"]), ("F8_E4M3", [rows]))
        self.assertEqual(self.stored(self.UP, "--quantization", "fp8")["scale_shape"], [rows])
        self.assertEqual(self.stored(self.UP, "--quantization", "fp8_per_channel")["scale_shape"], [rows])
        self.assertEqual(self.stored(self.UP, "--quantization", "fp8_per_block")["scale_shape"], [(rows + 127) // 128, 1])
        self.assertEqual(self.stored(self.UP, "--quantization", "none")["stored_dtype"], "BF16")
        per_tensor = self.stored(self.UP, "--quantization", "fp8_per_tensor")
        self.assertNotEqual(per_tensor["sqnr_db"], up["sqnr_db"])

    def test_fp8_format_chooses_the_bits(self):
        self.assertEqual(self.stored(self.UP, "--fp8-format", "e4m3")["stored_dtype"], "F8_E4M3")
        self.assertEqual(self.stored(self.UP, "--fp8-format", "e5m2")["stored_dtype"], "F8_E5M2")

    def test_page_cache_keeps_the_files_or_leaves_it_to_others(self):
        weights = self.folder / "demo" / "model.safetensors"
        shutil.copytree(DEMO, weights.parent)

        def share_after(*options):
            drop_from_page_cache(weights)
            if cached_share(weights) > 0:
                self.skipTest("this file system keeps its files in memory")
            self.report(*options, model=weights.parent)
            return cached_share(weights)

        self.assertEqual(share_after("--page-cache", "keep"), 1)
        self.assertLess(share_after("--page-cache", "bypass"), 0.5)  # the header goes through it
        self.refused(2, "--page-cache", "generate", DEMO, "--prompt-ids", "1", "--page-cache", "never")

    def test_raw_cast_stores_no_scales(self):
        self.assertEqual(self.stored(self.UP, "--raw-cast")["scale_shape"], [])

    def test_head_and_embedding_are_stored_in_fp8_when_asked(self):
        self.assertEqual(self.stored(self.HEAD)["stored_dtype"], "BF16")
        self.assertEqual(self.stored(self.HEAD, "--fp8-lm-head")["stored_dtype"], "F8_E4M3")
        self.assertEqual(self.stored(self.TABLE, "--fp8-lm-head")["stored_dtype"], "BF16")
        self.assertEqual(self.stored(self.TABLE, "--fp8-embedding")["stored_dtype"], "F8_E4M3")
        self.assertEqual(self.stored(self.HEAD, "--fp8-lm-head", "--no-fp8-lm-head")["stored_dtype"], "BF16")
        self.assertEqual(self.stored(self.TABLE, "--fp8-embedding", "--no-fp8-embedding")["stored_dtype"], "BF16")

    def test_head_alone_by_raw_cast(self):
        options = ("--quantization", "none", "--fp8-lm-head", "--raw-cast")
        head = self.stored(self.HEAD, *options)
        self.assertEqual((head["stored_dtype"], head["scale_shape"]), ("F8_E4M3", []))
        self.assertEqual(self.stored(self.UP, *options)["stored_dtype"], "BF16")

    def test_ignored_modules_stay_as_they_are(self):
        for pattern in ("model.layers.0.mlp.up_proj", "*.layers.0.mlp.*", "re:.*layers\\.0\\.mlp\\..*"):
            options = ("--ignore", pattern, "--ignore", "model.layers.0.mlp.gate_proj")
            self.assertEqual(self.stored(self.UP, *options)["stored_dtype"], "BF16", pattern)
        self.assertEqual(self.stored("model.layers.1.mlp.up_proj.weight", *options)["stored_dtype"], "F8_E4M3")

    def test_numerics_profiles_round_differently(self):
        self.assertNotEqual(self.stored(self.UP, "--numerics", "vllm")["sqnr_db"],
                            self.stored(self.UP, "--numerics", "compressed-tensors")["sqnr_db"])

    def test_dtype_converts_what_is_not_quantized(self):
        norm = "model.norm.weight"
        self.assertEqual(self.stored(norm, "--dtype", "float16")["stored_dtype"], "F16")

    def test_dummy_weights_need_no_weights_and_are_the_same_each_time(self):
        copy = self.copy_of(TINY)
        (copy / "model.safetensors").unlink()
        words = ("logits", copy, "--ids", "1,2,3", "--json", "--load-format", "dummy")
        self.assertEqual(self.done(*words), self.done(*words))
        self.refused(1, "safetensors", *words[:-2])


class Plans(Reports):
    def test_the_plan_is_what_loading_takes(self):
        for options in ((), ("--quantization", "none"), ("--fp8-lm-head", "--fp8-embedding"), ("--quantization", "fp8_per_block")):
            plan = self.json("inspect", UNTIED, "--json", *options)["plan"]
            path = self.folder / "report.json"
            self.done("generate", UNTIED, "--prompt-ids", "1", "-n", "1", "--load-report", path, *options)
            report = json.loads(path.read_text())
            self.assertEqual(plan["final_bytes"], report["final_bytes"], options)
            self.assertEqual(plan["peak_bytes"], report["predicted_peak_bytes"], options)

    def test_digests_are_the_same_for_any_threads_and_change_with_the_weights(self):
        def digests(*options):
            report = self.report("--digest", *options)
            return report["digests"]

        one = digests("--threads", "1")
        self.assertEqual(one, digests("--threads", "2"))
        self.assertEqual(one, digests("--device", "reference"))
        self.assertTrue(all(re.fullmatch("[0-9a-f]{64}", digest) for digest in one.values()))
        self.assertIn("model.norm.weight", one)
        other = digests("--quantization", "fp8_per_block")
        self.assertEqual(one["model.norm.weight"], other["model.norm.weight"])
        self.assertNotEqual(one["model.layers.0.mlp.up_proj.weight"], other["model.layers.0.mlp.up_proj.weight"])

    def test_digests_are_told_on_standard_error_and_in_json_when_asked_for(self):
        words = ("generate", UNTIED, "--prompt-ids", "1", "-n", "1", "--json")
        plain = self.octet(*words)
        self.assertNotIn("digests", json.loads(plain.out))
        asked = self.octet(*words, "--digest")
        for name, digest in json.loads(asked.out)["digests"].items():
            self.assertIn(f"{digest}  {name}\n", asked.err)
            self.assertNotIn(digest, plain.err)

    def test_savings_are_the_same_before_and_after_loading(self):
        inspected = self.json("inspect", UNTIED, "--json", "--fp8-lm-head")["options"]
        saving = next(option for option in inspected if option["option"] == "--fp8-lm-head")
        self.assertTrue(saving["in_force"])
        result = self.octet("generate", UNTIED, "--prompt-ids", "1", "-n", "1", "--fp8-lm-head")
        self.assertRegex(result.err, rf"saved +by --fp8-lm-head: .*\({saving['saved_bytes']} bytes\)")

    def test_a_saving_is_the_difference_of_two_plans(self):
        before = self.json("inspect", UNTIED, "--json")
        after = self.json("inspect", UNTIED, "--json", "--fp8-lm-head")
        saving = next(option for option in before["options"] if option["option"] == "--fp8-lm-head")
        self.assertEqual(saving["saved_bytes"], before["plan"]["final_bytes"] - after["plan"]["final_bytes"])


class CacheOptions(OctetTest):
    def kv(self, *options):
        run = self.json("generate", TINY, "--prompt-ids", "1", "-n", "1", "--json", *options)
        return run["memory"]["kv_cache_bytes"]

    def test_fp8_takes_about_half_of_the_bytes(self):
        full = self.kv()
        for dtype in ("fp8", "fp8_e4m3", "fp8_e5m2"):
            self.assertLess(self.kv("--kv-cache-dtype", dtype), 0.8 * full, dtype)
        self.assertEqual(self.kv("--kv-cache-dtype", "auto"), full)
        self.assertEqual(self.kv("--kv-cache-dtype", "bfloat16"), full)
        self.assertEqual(self.kv("--kv-cache-dtype", "float16"), full)
        self.assertEqual(self.kv("--kv-cache-dtype", "float32"), 2 * full)

    def test_context_and_sequences_decide_how_much(self):
        self.assertEqual(self.kv("--max-model-len", "64"), self.kv() / 2)
        self.assertEqual(self.kv("--max-num-seqs", "3"), self.kv() * 3)

    def test_memory_decides_when_given(self):
        self.assertEqual(self.kv("--kv-cache-memory", "1MiB"), 2**20 // (32 * self.per_token()) * 32 * self.per_token())
        for size, same in (("1M", "1048576"), ("1e6", "1000000"), ("1MB", "1000000"), ("0.5GiB", "512m")):
            self.assertEqual(self.kv("--kv-cache-memory", size), self.kv("--kv-cache-memory", same))

    def per_token(self):
        return self.json("inspect", TINY, "--json")["kv_cache_bytes_per_token"]

    def test_a_context_that_does_not_fit_is_refused_with_the_numbers(self):
        words = ("generate", TINY, "--prompt-ids", "1")
        self.refused(1, "--max-model-len: expected 1 to 128", *words, "--max-model-len", "129")
        self.refused(1, "there is room for 32 tokens", *words, "--kv-cache-memory", 40 * self.per_token(), "--max-model-len", "64")
        self.refused(1, "raise --kv-cache-memory", *words, "--kv-cache-memory", "10")


class ComputeOptions(OctetTest):
    def logits(self, *options, model=UNTIED):
        path = self.folder / "x.npy"
        self.done("logits", model, "--ids", ids_text(range(1, 40)), "--output", path, *options)
        return read_npy(path)[1]

    def test_threads_do_not_change_a_bit(self):
        self.assertEqual(self.logits("--threads", "1"), self.logits("--threads", "3"))

    def test_dtype_is_the_precision_of_the_multiply(self):
        self.assertNotEqual(self.logits("--dtype", "bfloat16"), self.logits("--dtype", "float32"))
        self.assertEqual(self.logits("--dtype", "auto"), self.logits("--dtype", "bfloat16"))

    def test_dynamic_activations_are_rounded_to_fp8(self):
        plain = self.logits("--dtype", "float32")
        self.assertEqual(self.logits("--dtype", "float32", "--activation-scheme", "none"), plain)
        self.assertEqual(self.logits("--dtype", "float32", "--activation-scheme", "auto"), plain)
        self.assertNotEqual(self.logits("--dtype", "float32", "--activation-scheme", "dynamic"), plain)

    def test_a_cache_in_fp8_rounds_keys_and_values(self):
        plain = self.logits(*EXACT)
        e4m3 = self.logits(*EXACT, "--kv-cache-dtype", "fp8")
        e5m2 = self.logits(*EXACT, "--kv-cache-dtype", "fp8_e5m2")
        self.assertNotEqual(plain, e4m3)
        self.assertNotEqual(e4m3, e5m2)

    def test_the_device_is_the_one_asked_for(self):
        self.assertIn("reference", self.json("inspect", TINY, "--json", "--device", "reference")["backend"])
        self.assertNotIn("reference", self.json("inspect", TINY, "--json", "--device", "cpu")["backend"])
        self.assertIn("portable", self.json("inspect", TINY, "--json", "--isa", "portable")["backend"])


class Contradictions(OctetTest):
    WORDS = ("generate", TINY, "--prompt-ids", "1")

    def test_raw_cast_with_scales_is_wrong_usage(self):
        self.refused(2, "raw cast stores no scales.*leave out --raw-cast", *self.WORDS, "--raw-cast", "--quantization", "fp8_per_block")
        self.refused(2, "raw cast stores no scales.*static", *self.WORDS, "--raw-cast", "--activation-scheme", "static")

    def test_raw_cast_of_nothing_is_wrong_usage(self):
        self.refused(2, "nothing is quantized; leave out --raw-cast", *self.WORDS, "--raw-cast", "--quantization", "none")

    def test_a_raw_cast_is_inspected(self):
        without, cast = (self.json("inspect", TINY, "--json", *raw) for raw in ((), ("--raw-cast",)))
        self.assertLess(cast["plan"]["final_bytes"], without["plan"]["final_bytes"])

    def test_a_bad_pattern_is_wrong_usage(self):
        self.refused(2, "re:\\(", *self.WORDS, "--ignore", "re:(")

    def test_static_activations_without_scales_in_the_file_are_refused(self):
        self.refused(1, "--activation-scheme static: needs a checkpoint with input scales", *self.WORDS, "--activation-scheme", "static")

    def test_parts_of_a_merged_matrix_that_disagree_are_refused_by_name(self):
        self.refused(1, "up_proj", *self.WORDS, "--ignore", "model.layers.0.mlp.up_proj")

    def test_devices_that_are_not_there_are_refused(self):
        self.refused(1, "no CUDA", *self.WORDS, "--device", "cuda:0")
        self.refused(1, "unknown device \"tpu\"; known devices: auto, cpu, reference", *self.WORDS, "--device", "tpu")
        self.refused(1, "isa: an instruction set can be chosen", *self.WORDS, "--device", "reference", "--isa", "avx2")

    def test_more_than_one_process_is_refused_where_there_is_one(self):
        if "over MPI" in self.done("--version"):
            self.refused(2, "--tensor-parallel-size 2: expected 2 processes, found 1", *self.WORDS, "--tensor-parallel-size", "2")
        else:
            self.refused(1, "--tensor-parallel-size 2: this build has no MPI", *self.WORDS, "--tensor-parallel-size", "2")
        self.done(*self.WORDS, "-n", "1", "--tensor-parallel-size", "1")


if __name__ == "__main__":
    main()
