# SPDX-License-Identifier: Apache-2.0
"""Memory that runs out: a MemoryError, after which the process goes on."""
import os
import subprocess
import sys

import pytest

LIMITED = """
import resource
import numpy
import octet

def limit(more):
    with open("/proc/self/statm") as file:
        taken = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + more, resource.RLIM_INFINITY))

def unlimited():
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

def refused(call):
    try:
        call()
    except MemoryError as error:
        return error
    raise SystemExit("no MemoryError")
"""


def run(code, *arguments):
    done = subprocess.run([sys.executable, "-c", LIMITED + code, *map(str, arguments)], capture_output=True, text=True,
                          timeout=120, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits the address space as Linux does")
def test_a_multiply_without_memory_for_its_scratch_is_a_memory_error():
    run("""
from octet._octet import Fp8Runtime
runtime = Fp8Runtime(1)
tokens, n, k = 2, 64, 6 << 20  # a row is longer than the workspace from the start, of bfloat16 pairs too
x = numpy.zeros((tokens, k), numpy.uint16)  # bfloat16
codes, scales = numpy.zeros((1, k // 4, 64, 4), numpy.uint8), numpy.ones(1, numpy.float32)
y = numpy.ones((tokens, n), numpy.float32)
call = lambda: runtime.linear(x.ctypes.data, 2, tokens, k, codes.ctypes.data, scales.ctypes.data, True, n, k, 0, 0,
                              y.ctypes.data, 0)
limit(1 << 20)
error = refused(call)
unlimited()
assert isinstance(error, octet.OutOfMemoryError) and "out of memory" in str(error), repr(error)
assert (y == 1).all()
call()
assert (y == 0).all()
""")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits the address space as Linux does")
def test_a_model_that_does_not_fit_is_a_memory_error_and_a_later_load_works(demo):
    run("""
import sys
limit(2 << 20)
error = refused(lambda: octet.LLM(sys.argv[1], threads=1, max_model_len=64))
unlimited()
assert octet.LLM(sys.argv[1], threads=1, max_model_len=64).generate("The sea", max_tokens=2).ids
""", demo)
