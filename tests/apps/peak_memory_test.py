# SPDX-License-Identifier: Apache-2.0
"""The promise about memory, on a checkpoint of 1 GB: planned within 1 %, and never more than 64 MiB above the final
size, by the ledger and by what the operating system says of the process."""

import json
import subprocess
import sys

from harness import SOURCE, OctetTest, main

MIB = 1 << 20


class PeakMemory(OctetTest):
    def checkpoint(self):
        """Four layers of Llama-3.2-1B with its whole vocabulary: 1.01 GB in bfloat16."""
        folder = self.folder / "checkpoint"
        subprocess.run([sys.executable, str(SOURCE / "tools" / "make_random_checkpoint.py"), "llama-3.2-1b", str(folder),
                        "--layers", "4"], check=True, capture_output=True)
        return folder

    def load(self, folder, *options):
        report = self.folder / "report.json"
        self.done("generate", folder, "--prompt-ids", "1,2,3", "-n", "1", "--max-model-len", "64", "--load-report", report,
                  "--quiet", *options)
        return json.loads(report.read_text())

    def check(self, report):
        self.assertEqual(report["predicted_final_bytes"], report["final_bytes"])
        self.assertLessEqual(abs(report["predicted_peak_bytes"] - report["peak_bytes"]), 0.01 * report["peak_bytes"])
        self.assertLessEqual(report["peak_bytes"], report["final_bytes"] + 64 * MIB)
        growth = report["process_peak_rss_bytes"] - report["process_rss_before_bytes"]
        self.assertLessEqual(growth, report["final_bytes"] + 64 * MIB)
        self.assertGreater(growth, 0.9 * report["final_bytes"])  # the operating system saw the model at all

    def test_a_load_peaks_just_above_the_final_size(self):
        folder = self.checkpoint()
        inspected = self.json("inspect", folder, "--json")["plan"]
        report = self.load(folder)
        self.check(report)
        self.assertEqual(inspected["final_bytes"], report["final_bytes"])
        for options in (("--fp8-lm-head",), ("--quantization", "fp8_per_tensor"), ("--quantization", "fp8_per_block"),
                        ("--quantization", "none"), ("--threads", "1")):
            with self.subTest(options=options):
                self.check(self.load(folder, *options))


class BoundedMemory(OctetTest):
    def test_a_model_larger_than_the_bound_passes_through_less(self):
        copy = self.folder / "large"
        subprocess.run([sys.executable, str(SOURCE / "tools" / "make_random_checkpoint.py"), "llama-3.2-1b", str(copy),
                        "--layers", "2"], check=True, capture_output=True)
        for options in (("--fp8-embedding",), ("--quantization", "fp8_per_tensor"), ("--quantization", "fp8_per_block")):
            report = self.json("quantize", copy, self.folder / "out", "--overwrite", "--json", *options)
            self.assertGreater(report["bytes_before"], 640 * MIB)
            self.assertLess(report["process_peak_rss_bytes"], 160 * MIB, options)
            self.assertLessEqual(report["peak_bytes"], report["predicted_peak_bytes"])


if __name__ == "__main__":
    main()
