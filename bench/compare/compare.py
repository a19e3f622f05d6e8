#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs Octet beside PyTorch at the same shapes on the same machine, turn by turn, and prints the table.

    bench/compare/install_peers.sh /somewhere/peers
    bench/compare/compare.py --octet build/bin/octet --peers /somewhere/peers --work /somewhere

The weights are random: a checkpoint of Llama-3.2-1B's shapes is written to the folder of --work once. Each round measures
one after the other, and the table shows the median of the ratios of the rounds, so that a machine that changes its speed
between two rounds changes both sides.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
TOOLS = HERE.parent.parent / "tools"


class Torch:
    """The peer's process, which sleeps between requests."""

    def __init__(self, python, shapes, threads):
        self.process = subprocess.Popen(
            [python, str(HERE / "torch_peer.py"), json.dumps(shapes), str(threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.name = self.process.stdout.readline().strip()
        if not self.name:
            sys.exit("compare.py: PyTorch did not start; run install_peers.sh")

    def ask(self, request):
        self.process.stdin.write(request + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(f"compare.py: PyTorch ended at '{request}'")
        return float(answer)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def octet(arguments, folder, quantization):
    command = [arguments.octet, "bench", str(folder), "-p", str(arguments.prompt), "-n", str(arguments.new), "-r", "1",
               "--threads", str(arguments.threads), "--quantization", quantization, "--json"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def make_checkpoint(arguments):
    folder = arguments.work / arguments.shape
    if not (folder / "config.json").exists():
        subprocess.run([sys.executable, str(TOOLS / "make_random_checkpoint.py"), arguments.shape, str(folder)], check=True)
    return folder


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--octet", required=True, help="the program")
    parser.add_argument("--peers", required=True, type=pathlib.Path, help="folder of install_peers.sh")
    parser.add_argument("--work", required=True, type=pathlib.Path, help="folder for the checkpoint")
    parser.add_argument("--shape", default="llama-3.2-1b", help="as make_random_checkpoint.py names it")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--new", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()

    folder = make_checkpoint(arguments)
    shapes = json.loads((folder / "config.json").read_text())
    peer = Torch(str(arguments.peers / "venv" / "bin" / "python"), shapes, arguments.threads)
    requests = {"prefill": f"prefill {arguments.prompt}", "decode": f"decode {arguments.prompt} {arguments.new}"}
    for request in requests.values():
        peer.ask(request)  # touches memory for the first time
    rates = {}
    for _ in range(arguments.rounds):
        for quantization in ("fp8", "none"):
            result = octet(arguments, folder, quantization)
            machine = result["machine"]
            for phase, request in requests.items():
                own = result[phase]["tokens_per_second"]
                rates.setdefault((phase, quantization), []).append((own, peer.ask(request)))
    peer.close()

    print(f"{machine['cpu']}, {machine['backend']}; {peer.name}; {arguments.shape}, prompt of {arguments.prompt}, "
          f"{arguments.new} new, {arguments.threads} threads, {arguments.rounds} rounds")
    print(f"{'':8} {'Octet':>6} {'tokens/s':>10} {'PyTorch':>10} {'ratio':>7}")
    for (phase, quantization), pairs in rates.items():
        print(f"{phase:8} {'FP8' if quantization == 'fp8' else 'bf16':>6} "
              f"{statistics.median(own for own, _ in pairs):10.2f} {statistics.median(other for _, other in pairs):10.2f} "
              f"{statistics.median(own / other for own, other in pairs):7.2f}")


if __name__ == "__main__":
    main()
