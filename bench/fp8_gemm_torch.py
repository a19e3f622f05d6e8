#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""FP8Linear against torch, paired: each figure is the median over rounds in which octet, F.linear in bfloat16 and
torch._scaled_mm take turns, in every order equally often, each timed call right after one of the same contender over
another weight. Through Python, the quantization of the activations included. Weights are cold: copies rotate through 256
MiB. Also the share of what the vector units reach in a loop of multiplications alone, taken in the same rounds, how many
times _scaled_mm that loop would be, and the time of a call that has next to nothing to multiply.

    PYTHONPATH=build/dev/python python bench/fp8_gemm_torch.py [--quick] [--one-thread] [--json FILE]

--one-thread runs everything on one thread and counts the time that this thread itself was running: for a machine that
is shared with other work, whose waits it leaves out.
"""
import argparse
import itertools
import json
import statistics
import time
from typing import Callable

import torch
import torch.nn.functional as F
from torch import nn

from octet.torch import FP8GemmOptions, FP8Linear
from octet.torch._kernels import runtime

SHAPES = ((2048, 2048), (8192, 2048), (4096, 14336))  # N x K
TOKENS = (1, 8, 64, 512)
COLD_BYTES = 256 << 20
ROUND_SECONDS = 2.0  # of one contender of one case; a slower one gets one call
ROUNDS = 30


class Stopwatch:
    """Times calls: by the wall, or by what the calling thread itself was running."""

    def __init__(self, one_thread: bool) -> None:
        self.one_thread = one_thread
        self._now: Callable[[], float] = time.thread_time if one_thread else time.perf_counter

    def seconds(self, call) -> float:
        start = self._now()
        call()
        return self._now() - start

    def ceiling(self) -> float:
        """Multiplications and additions a second, at the most, now."""
        return runtime().multiply_ceiling(self.one_thread)


class Case:
    """The contenders of one shape, each over its own cold copies of one weight."""

    def __init__(self, n: int, k: int, copies: int) -> None:
        self.n, self.k = n, k
        weight = torch.randn(n, k).mul_(0.02).to(torch.bfloat16)
        self.dense = [weight.clone() for _ in range(copies)]
        self.fp8 = []
        self.scaled = []
        for _ in range(copies):
            linear = nn.Linear(1, 1, bias=False, dtype=torch.bfloat16)
            linear.weight = nn.Parameter(weight, requires_grad=False)
            self.fp8.append(FP8Linear(linear, options=FP8GemmOptions()))
            self.scaled.append((weight.float() / (weight.abs().max().float() / 448)).to(torch.float8_e4m3fn).t())
        self.scale = (weight.abs().max().float() / 448).reshape(1, 1)
        self.turn = 0

    def octet(self, x):
        return self.fp8[self.turn % len(self.fp8)](x)

    def torch_bf16(self, x):
        return F.linear(x, self.dense[self.turn % len(self.dense)])

    def torch_scaled_mm(self, x):
        scale = (x.abs().amax().float() / 448).reshape(1, 1)
        codes = (x.float() / scale).clamp(-448, 448).to(torch.float8_e4m3fn)
        return torch._scaled_mm(codes, self.scaled[self.turn % len(self.scaled)], scale_a=scale, scale_b=self.scale,
                                out_dtype=torch.bfloat16)

    def check(self, x) -> None:
        """The answers must be those of the same matrix before they are timed."""
        y, expected = self.octet(x).float(), self.torch_bf16(x).float()
        error = ((y - expected).norm() / expected.norm()).item()
        if not error < 0.06:
            raise SystemExit(f"{self.n}x{self.k}: octet is {error:.3f} away from bfloat16")


def measure(case: Case, tokens: int, rounds: int, watch: Stopwatch) -> dict:
    x = torch.randn(tokens, case.k, dtype=torch.bfloat16)
    case.check(x)
    contenders = {"octet": case.octet, "bf16": case.torch_bf16, "scaled_mm": case.torch_scaled_mm}
    times = {name: [] for name in contenders}
    shares, ceilings = [], []
    work = 2.0 * tokens * case.n * case.k
    # What ran before leaves caches and threads in one state or another.
    orders = list(itertools.permutations(contenders.items()))
    for turn in range(rounds):
        for name, call in orders[turn % len(orders)]:
            if sum(times[name]) < ROUND_SECONDS:
                case.turn += 1
                call(x)  # not timed: its threads are awake, its memory is at hand, whoever's turn it was before
                case.turn += 1
                times[name].append(watch.seconds(lambda: call(x)))
                if name == "octet":
                    ceilings.append(watch.ceiling())
                    shares.append(work / times[name][-1] / ceilings[-1])
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {"n": case.n, "k": case.k, "tokens": tokens, "milliseconds": {a: 1e3 * b for a, b in medians.items()},
            "gigaflops": {name: work / value / 1e9 for name, value in medians.items()},
            "over_bf16": medians["bf16"] / medians["octet"], "over_scaled_mm": medians["scaled_mm"] / medians["octet"],
            "of_ceiling": statistics.median(shares), "ceiling_over_scaled_mm": medians["scaled_mm"] / work *
            statistics.median(ceilings)}


def overhead(storage: str, watch: Stopwatch) -> float:
    """Microseconds of a call of a 16 x 16 layer: medians of many, each over some calls."""
    layer = FP8Linear(nn.Linear(16, 16, dtype=torch.bfloat16), options=FP8GemmOptions(fp16_weight_storage=storage))
    x = torch.randn(1, 16, dtype=torch.bfloat16)
    calls = 50
    return 1e6 * statistics.median(watch.seconds(lambda: [layer(x) for _ in range(calls)]) for _ in range(200)) / calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one small shape, few rounds")
    parser.add_argument("--one-thread", action="store_true", help="one thread, its own time")
    parser.add_argument("--tokens", type=int, choices=TOKENS, action="append", help="only so many")
    parser.add_argument("--shape", type=int, choices=range(len(SHAPES)), help="only this shape: 0, 1 or 2")
    parser.add_argument("--json", help="write the figures to this file")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    if arguments.one_thread:
        torch.set_num_threads(1)
    watch = Stopwatch(arguments.one_thread)
    for _ in range(5):  # threads that were just started share a core for a while
        watch.ceiling()
    with torch.inference_mode():
        results = {"device": runtime().describe(), "torch": torch.__version__, "ceiling_gigaflops": watch.ceiling() / 1e9,
                   "call_microseconds": {kind: overhead(kind, watch) for kind in ("discard", "cpu_offload", "keep")},
                   "cases": []}
        print(f"{results['device']}, torch {results['torch']}; ceiling "
              f"{results['ceiling_gigaflops']:.0f} GFLOP/s; a call of a 16 x 16 layer: "
              + ", ".join(f"{kind} {value:.1f} us" for kind, value in results["call_microseconds"].items()), flush=True)
        print("| N x K | tokens | octet | bf16 F.linear | _scaled_mm | octet / bf16 | octet / _scaled_mm | "
              "of the ceiling | ceiling / _scaled_mm |")
        print("|---|---|---|---|---|---|---|---|---|", flush=True)
        shapes = SHAPES if arguments.shape is None else SHAPES[arguments.shape:arguments.shape + 1]
        for n, k in shapes[:1] if arguments.quick else shapes:
            case = Case(n, k, 2 if arguments.quick else max(2, COLD_BYTES // (n * k)))
            for tokens in TOKENS[:2] if arguments.quick else arguments.tokens or TOKENS:
                result = measure(case, tokens, 3 if arguments.quick else ROUNDS, watch)
                results["cases"].append(result)
                rates = [f"{result['gigaflops'][name]:.1f}" for name in ("octet", "bf16", "scaled_mm")]
                print(f"| {n} x {k} | {tokens} | {' | '.join(rates)} | {result['over_bf16']:.2f} | "
                      f"{result['over_scaled_mm']:.1f} | {result['of_ceiling']:.2f} | "
                      f"{result['ceiling_over_scaled_mm']:.1f} |", flush=True)
            del case
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
