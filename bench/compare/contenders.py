# SPDX-License-Identifier: Apache-2.0
"""Who runs in compare.py, and how fast: Octet in three ways of storing, PyTorch, llama.cpp with two files."""

import json
import os
import pathlib
import subprocess
import sys
from dataclasses import dataclass

HERE = pathlib.Path(__file__).resolve().parent
TOOLS = HERE.parent.parent / "tools"
PEERS = {"torch": ["torch"], "llama.cpp": ["llama_cpp", "gguf"]}  # what each imports

ALL_FP8 = ["--fp8-lm-head", "--fp8-embedding"]
OCTET = {  # llama.cpp's Q8_0 has its head and embedding in 8 bits, Octet unless told in 16
    "Octet FP8": ["--quantization", "fp8"],
    "Octet FP8 head": ["--quantization", "fp8", *ALL_FP8],
    "Octet bf16": ["--quantization", "none"],
}


class CompareError(Exception):
    """What is said to the user instead of a table."""


@dataclass(frozen=True)
class Setup:
    octet: str
    peers: pathlib.Path
    work: pathlib.Path
    shape: str
    threads: int
    prompt: int
    new: int

    @property
    def folder(self):
        return self.work / self.shape

    @property
    def exported(self):
        return self.work / f"{self.shape}-fp8"

    def gguf(self, kind):
        return self.work / f"{self.shape}-{kind}.gguf"

    @property
    def python(self):
        return str(self.peers / "venv" / "bin" / "python")


def run(command, what, **options):
    """Standard output of a program that must succeed."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, **options)
    except OSError as error:
        raise CompareError(f"{what}: {error}") from error
    if done.returncode != 0:
        raise CompareError(f"{what} failed ({done.returncode}): {done.stderr.strip()[-2000:]}")
    return done.stdout


def check_installed(setup, peers):
    for peer in peers:
        names = " and ".join(f"find_spec({name!r})" for name in PEERS[peer])
        try:
            run([setup.python, "-c", f"from importlib.util import find_spec; assert {names}"], peer)
        except CompareError:
            raise CompareError(f"{peer} is not installed in {setup.peers}; run bench/compare/install_peers.sh "
                               f"{setup.peers}, or leave it out (--peer)") from None


def make_checkpoint(setup):
    if not (setup.folder / "config.json").exists():
        run([sys.executable, str(TOOLS / "make_random_checkpoint.py"), setup.shape, str(setup.folder)], "the checkpoint")


def make_gguf(setup):
    bf16, q8_0 = setup.gguf("BF16"), setup.gguf("Q8_0")
    if not (bf16.exists() and q8_0.exists()):
        run([setup.python, str(HERE / "llama_convert.py"), str(setup.folder), str(bf16), str(q8_0)], "the GGUF files")


def make_exported(setup):
    if not (setup.exported / "config.json").exists():
        run([setup.octet, "quantize", str(setup.folder), str(setup.exported), "--quiet", *ALL_FP8], "octet quantize")


def machine(setup):
    """What Octet says of the processor and of its kernels, by a glance at the bundled model."""
    command = [setup.octet, "bench", "-p", "8", "-n", "1", "-r", "1", "--threads", str(setup.threads), "--quiet", "--json"]
    told = json.loads(run(command, "octet bench"))["machine"]
    return {key: told[key] for key in ("cpu", "backend")}


def octet_rates(setup, options):
    command = [setup.octet, "bench", str(setup.folder), "-p", str(setup.prompt), "-n", str(setup.new), "-r", "1",
               "--threads", str(setup.threads), "--quiet", "--json", *options]
    result = json.loads(run(command, "octet bench"))
    return {phase: result[phase]["tokens_per_second"] for phase in ("prefill", "decode")}


def peer_environment():
    """The threads of the peers meet at barriers of OpenMP many times in a step. Where they sleep there, a step of decode
    takes up to six times as long on a machine of two cores; spinning is their fastest and steadiest."""
    return os.environ | {"OMP_WAIT_POLICY": "active"}


class PeerProcess:
    """Answers one line for each line. It lives for one turn only, since its threads spin while it waits for work."""

    def __init__(self, command):
        self.command, self.name = command, None

    def __enter__(self):
        # In a session of its own, Ctrl-C is for compare.py alone, which ends it.
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env=peer_environment(), start_new_session=True)
        try:
            self.name = self.process.stdout.readline().strip()
        except KeyboardInterrupt:
            self.__exit__()
            raise
        if not self.name:
            self.process.wait()
            raise CompareError(f"{' '.join(self.command[:3])} did not start")
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def ask(self, request):
        try:
            self.process.stdin.write(request + "\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise CompareError(f"{self.name} ended at '{request}'")
        return json.loads(answer)

    def rates(self, setup):
        for small in ("prefill 16", "decode 16 2"):  # touches weights and wakes threads for the first time
            self.ask(small)
        return {"prefill": self.ask(f"prefill {setup.prompt}"),
                "decode": self.ask(f"decode {setup.prompt} {setup.new}")}


def start_torch(setup):
    shapes = (setup.folder / "config.json").read_text(encoding="utf-8")
    return PeerProcess([setup.python, str(HERE / "torch_peer.py"), shapes, str(setup.threads)])


def llama_command(setup, kind):
    return [setup.python, str(HERE / "llama_peer.py"), str(setup.gguf(kind)), str(setup.threads)]


def start_llama(setup, kind):
    return PeerProcess([*llama_command(setup, kind), str(max(512, setup.prompt + setup.new))])


def peer_rates(setup, peers):
    """(name, rates, version) of each, one after the other."""
    starts = []
    if "llama.cpp" in peers:
        starts += [(f"llama.cpp {kind}", lambda kind=kind: start_llama(setup, kind)) for kind in ("Q8_0", "BF16")]
    if "torch" in peers:
        starts.append(("PyTorch bf16", lambda: start_torch(setup)))
    for name, start in starts:
        with start() as peer:
            yield name, peer.rates(setup), peer.name
