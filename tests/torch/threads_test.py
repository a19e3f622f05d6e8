# SPDX-License-Identifier: Apache-2.0
"""FP8Linear called from several threads, on the threads of torch, and in a forked process."""
import multiprocessing
import os
import threading

import pytest

torch = pytest.importorskip("torch", reason="octet.torch needs PyTorch")
from torch import nn  # noqa: E402

from conftest import linear, options, stored  # noqa: E402
import octet.torch  # noqa: E402
from octet.torch import FP8Linear  # noqa: E402


def test_several_threads_get_the_right_answers():
    wrapped = FP8Linear(linear(256, 128), options=options(materialize_fp8_on_wrap=False))
    inputs = [torch.randn(1 + 7 * i, 128, dtype=torch.bfloat16) for i in range(6)]
    found = [None] * len(inputs)

    def call(index):
        with torch.no_grad():
            for _ in range(10):
                found[index] = wrapped(inputs[index])

    threads = [threading.Thread(target=call, args=(i,)) for i in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with torch.no_grad():
        assert all(torch.equal(y, wrapped(x)) for x, y in zip(inputs, found))


def test_a_forward_beside_a_requantization_sees_one_state_of_the_weight():
    wrapped = FP8Linear(linear(64, 64, bias=False), options=stored("keep"))
    weights = [nn.Parameter(torch.randn(64, 64).mul(size), requires_grad=False) for size in (1, 1000)]
    x = torch.randn(1, 64, dtype=torch.bfloat16)
    expected = []
    for weight in weights:
        wrapped.linear.weight = weight
        expected.append(wrapped(x))
    wrong, done = [], threading.Event()

    def call():
        while not done.is_set():
            y = wrapped(x)
            if not any(torch.equal(y, right) for right in expected):
                wrong.append(y)

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    for turn in range(300):
        wrapped.linear.weight = weights[turn % 2]
        wrapped(x)
    done.set()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_number_of_threads_follows_torch_and_changes_no_bit():
    wrapped = FP8Linear(linear(256, 128))
    x = torch.randn(40, 128, dtype=torch.bfloat16)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            with torch.no_grad():
                results.append(wrapped(x))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


def test_its_loops_run_on_the_threads_of_torch():
    if not octet.torch._kernels._parallel:
        pytest.skip("this build of torch has no OpenMP")
    wrapped, x = FP8Linear(linear(256, 512)), torch.randn(64, 512, dtype=torch.bfloat16)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        torch.nn.functional.linear(torch.randn(512, 512), torch.randn(512, 512))  # which starts torch's
        running = len(os.listdir("/proc/self/task"))
        with torch.no_grad():
            wrapped(x)
        assert octet.torch._kernels.runtime().threads == 3 and len(os.listdir("/proc/self/task")) <= running
    finally:
        torch.set_num_threads(before)


def test_a_forked_process_can_multiply():
    wrapped = FP8Linear(linear(256, 512), options=stored("keep"))
    x = torch.randn(64, 512, dtype=torch.bfloat16)
    with torch.no_grad():
        expected = wrapped(x)
    receiver, sender = multiprocessing.Pipe(duplex=False)

    def child():
        torch.set_num_threads(2)
        wrapped.invalidate_weight_cache()
        with torch.no_grad():
            sender.send(bool(torch.equal(wrapped(x), expected)))

    holds, done = threading.Event(), threading.Event()

    def materialize():  # as another thread may while the process is forked
        with octet.torch._kernels.lock:
            holds.set()
            done.wait(60)

    other = threading.Thread(target=materialize)
    other.start()
    holds.wait(60)
    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(60)
    done.set()
    other.join()
    assert process.exitcode == 0 and receiver.recv()
