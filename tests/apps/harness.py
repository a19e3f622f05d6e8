# SPDX-License-Identifier: Apache-2.0
"""Runs the program `octet` as a user does, and looks at what it prints, writes and returns."""

import argparse
import array
import json
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

SOURCE = pathlib.Path(__file__).resolve().parents[2]
GOLDEN = SOURCE / "tests" / "golden" / "models"
TINY = GOLDEN / "llama_tied"
DEMO = SOURCE / "models" / "demo"
STORIES = SOURCE.parent / "shared" / "models" / "stories260K"
EXACT = ("--dtype", "float32", "--quantization", "none")
TIMEOUT = 300  # seconds: no command here takes long, not even under a sanitizer

program = None  # the path of octet, set by main()


class OctetTest(unittest.TestCase):
    """Every run has a time limit and an empty Hugging Face cache."""

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="octet_test_"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.environment = dict(os.environ, HF_HUB_CACHE=str(self.folder / "no_cache"), LC_ALL="C.UTF-8")

    def start(self, *words, **options):
        command = [program, *map(str, words)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.PIPE,
                                env=self.environment, **options)

    def octet(self, *words, stdin=b"", stdout=subprocess.PIPE, cwd=None):
        """The finished process; out and err as text."""
        command = [program, *map(str, words)]
        done = subprocess.run(command, input=stdin, stdout=stdout, stderr=subprocess.PIPE, timeout=TIMEOUT,
                              env=self.environment, cwd=cwd, check=False)
        done.out = (done.stdout or b"").decode()
        done.err = done.stderr.decode()
        return done

    def done(self, *words, **options):
        """Standard output of a run that must succeed."""
        result = self.octet(*words, **options)
        self.assertEqual(result.returncode, 0, result.err)
        return result.out

    def json(self, *words, **options):
        return json.loads(self.done(*words, **options))

    def refused(self, code, pattern, *words, **options):
        """One message that matches, the exit code, and nothing on standard output."""
        result = self.octet(*words, **options)
        self.assertEqual(result.returncode, code, result.err)
        self.assertRegex(result.err, re.compile("octet: error: .*(?:" + pattern + ")", re.S))
        self.assertEqual(result.out, "")
        self.assertEqual(result.err.count("octet: error:"), 1, result.err)
        return result

    def copy_of(self, model, **changes):
        """A copy of a model's folder with fields of config.json changed; None removes one."""
        copy = self.folder / "model"
        copy.mkdir()
        for path in model.iterdir():
            if path.suffix in (".json", ".safetensors") and not path.name.startswith("golden"):
                (copy / path.name).write_bytes(path.read_bytes())
        config = json.loads((copy / "config.json").read_text())
        for name, value in changes.items():
            config[name] = value
            if value is None:
                del config[name]
        (copy / "config.json").write_text(json.dumps(config))
        return copy

    def fail_read(self, number, how="error", rank=None):
        """From now on, read `number` of weights fails in each run, or kills its process (in one rank alone)."""
        library = self.need(pathlib.Path(program).parent / "libfailing_reads.so")
        self.environment.update(LD_PRELOAD=str(library), OCTET_TEST_READ=str(number), OCTET_TEST_HOW=how)
        if rank is not None:
            self.environment["OCTET_TEST_RANK"] = str(rank)

    def need(self, path):
        if not path.exists():
            self.skipTest(f"{path} is not there")
        return path


def read_npy(path):
    """((rows, cols), values) of a float32 matrix."""
    data = pathlib.Path(path).read_bytes()
    assert data[:8] == b"\x93NUMPY\x01\x00", data[:8]
    length = struct.unpack("<H", data[8:10])[0]
    assert (10 + length) % 64 == 0
    description = data[10:10 + length].decode()
    assert description.endswith("\n") and "'descr': '<f4'" in description and "'fortran_order': False" in description
    rows, cols = map(int, re.search(r"'shape': \((\d+), (\d+)\)", description).groups())
    values = array.array("f", data[10 + length:])
    assert len(values) == rows * cols
    return (rows, cols), values


def read_safetensors(path):
    """{name: (dtype, shape, values)} of F32 and I32 tensors."""
    data = pathlib.Path(path).read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    tensors = {}
    for name, entry in json.loads(data[8:8 + length]).items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        kind = {"F32": "f", "I32": "i"}[entry["dtype"]]
        tensors[name] = (entry["dtype"], entry["shape"], array.array(kind, data[8 + length + begin:8 + length + end]))
    return tensors


def ids_text(ids):
    return ",".join(map(str, ids))


def main():
    global program
    parser = argparse.ArgumentParser()
    parser.add_argument("--octet", required=True)
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    program = os.path.abspath(args.octet)
    module = sys.modules["__main__"]
    loader = unittest.TestLoader()
    suite = loader.loadTestsFromNames(args.names, module) if args.names else loader.loadTestsFromModule(module)
    result = unittest.TextTestRunner(verbosity=2).run(suite)
    if not result.wasSuccessful():
        sys.exit(1)
    sys.exit(77 if result.testsRun and len(result.skipped) == result.testsRun else 0)
