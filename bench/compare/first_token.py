# SPDX-License-Identifier: Apache-2.0
"""Seconds from the start of a process to its first token, with the files of the weights in the page cache or not."""

import ctypes
import json
import mmap
import os
import subprocess
import time

from contenders import ALL_FP8, CompareError, llama_command, peer_environment, run

PROMPT = "11,7,5,3,2,13,17,19"
PIECE = 8 << 20
# A page that is being read ahead when the cache is dropped stays; more than this share is a file in use.
RESIDENT_SHARE = 0.01


def resident_share(path):
    """Of the file's pages, those that are in the page cache."""
    size = path.stat().st_size
    pages = -(-size // mmap.PAGESIZE)
    marks = (ctypes.c_ubyte * pages)()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE) as mapped:
        place = ctypes.c_char.from_buffer(mapped)
        libc = ctypes.CDLL(None, use_errno=True)
        status = libc.mincore(ctypes.c_void_p(ctypes.addressof(place)), ctypes.c_size_t(size), marks)
        del place
    if status != 0:
        raise CompareError(f"{path}: mincore: {os.strerror(ctypes.get_errno())}")
    return sum(mark & 1 for mark in marks) / pages


def make_cold(paths):
    for path in paths:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        share = resident_share(path)
        if share > RESIDENT_SHARE:
            raise CompareError(f"{path}: {100 * share:.0f} % stay in the page cache, so that no cold start can be "
                               f"measured; end the programs that have it mapped, or put --work on a disk")


def read_alone(paths):
    """Seconds to read the files without doing anything; they are warm afterwards."""
    buffer = bytearray(PIECE)
    begin = time.perf_counter()
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
    return time.perf_counter() - begin


def octet_seconds(setup, folder, options):
    """Until the first id can be read."""
    command = [setup.octet, "generate", str(folder), "--prompt-ids", PROMPT, "-n", "1", "--temperature", "0",
               "--max-model-len", "64", "--threads", str(setup.threads), "--quiet", "--json", *options]
    begin = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        answered = process.stdout.readline()
        seconds = time.perf_counter() - begin
        _, complaint = process.communicate()
    if not answered or process.returncode != 0:
        raise CompareError(f"octet generate failed ({process.returncode}): {complaint.strip()}")
    return seconds


def llama_seconds(setup, kind):
    """Counted by the peer once Python has loaded the library: the interpreter is no part of llama.cpp."""
    answer = run([*llama_command(setup, kind), "--first", PROMPT], "llama.cpp", env=peer_environment())
    return json.loads(answer)["seconds"]


def weights_of(folder):
    return sorted(folder.glob("*.safetensors"))


def contenders(setup, peers):
    """(name, files, seconds of one start), peers beside the one of Octet that they are compared with."""
    yield "Octet FP8", weights_of(setup.folder), lambda: octet_seconds(setup, setup.folder, ["--quantization", "fp8"])
    if "llama.cpp" in peers:
        yield "llama.cpp BF16", [setup.gguf("BF16")], lambda: llama_seconds(setup, "BF16")
    yield "Octet exported", weights_of(setup.exported), lambda: octet_seconds(setup, setup.exported, ALL_FP8)
    if "llama.cpp" in peers:
        yield "llama.cpp Q8_0", [setup.gguf("Q8_0")], lambda: llama_seconds(setup, "Q8_0")


def measure(setup, peers):
    """Name -> seconds "cold" and "warm", and "read": reading the same files cold and doing nothing.

    The host of a virtual machine takes back what lies free, and to have a GB of it again costs a start of any program one to
    three seconds, which is no property of the program. So each is first started once uncounted, cold or warm, and then
    takes what it has just given back. Before a warm start the files are read as a whole: on a fast disk Octet leaves
    nothing in the cache.
    """
    result = {}
    for name, files, start in contenders(setup, peers):
        read_alone(files)
        make_cold(files)
        start()
        make_cold(files)
        cold = start()
        read_alone(files)
        start()
        result[name] = {"cold": cold, "warm": start()}
        make_cold(files)
        result[name]["read"] = read_alone(files)
    return result
