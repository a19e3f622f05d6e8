#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What llvm-mca (Debian: llvm-19) says of the inner loops of the AVX-512 kernels, taken from the objects as compiled: a
static estimate with all data in the first cache, timed on no machine. "Of the peak" is beside the loop's multiply-adds
alone in the same model.

  tools/kernel_cycles.py build/dev/octet/backend/cpu/CMakeFiles/octet_backend_cpu.dir"""
import argparse
import pathlib
import re
import shutil
import subprocess
import sys
from typing import NamedTuple


class Loop(NamedTuple):
    title: str
    object: str
    function: str  # of its demangled name, less namespaces
    unit: str      # what one turn consumes
    size: int


BF16, F32 = "kernels_avx512_bf16.cpp.o", "kernels_avx512.cpp.o"
WEIGHTS, VALUES = "bytes of weights", "values"
LOOPS = [
    Loop("1 token, E4M3, bfloat16", BF16, "multiply_tiles<PairsFp8<3, 7, 126>, 4, 1,", WEIGHTS, 256),
    Loop("1 token, E5M2, bfloat16", BF16, "multiply_tiles<PairsFp8<2, 15, 123>, 4, 1,", WEIGHTS, 256),
    Loop("1 token, E4M3, float32", F32, "multiply_tiles<FormatFp8<3, 126, true>, 4, 1,", WEIGHTS, 256),
    Loop("1 token, E4M3 with NaN, float32", F32, "multiply_tiles<FormatFp8<3, 126, false>, 4, 1,", WEIGHTS, 256),
    Loop("8 tokens, E4M3, bfloat16", BF16, "multiply_tiles<PairsFp8<3, 7, 126>, 2, 8,", WEIGHTS, 128),
    Loop("8 tokens, E4M3, float32", F32, "multiply_tiles<FormatFp8<3, 126, true>, 2, 8,", WEIGHTS, 128),
    Loop("decoding for 21 or more, to bfloat16", BF16, "decode_strip<PairsFp8<3, 7, 126>, 4>", WEIGHTS, 256),
    Loop("tiles of 6 tokens, bfloat16", BF16, "multiply_tiles<PairsBF16, 4, 6, (From)1, false, 2>", WEIGHTS, 128),
    Loop("tiles of 5 tokens, bfloat16", BF16, "multiply_tiles<PairsBF16, 4, 5, (From)1, false, 2>", WEIGHTS, 128),
    Loop("decoding for 21 or more, to float32", F32, "decode_strip<FormatFp8<3, 126, true>, 4>", WEIGHTS, 256),
    Loop("tiles of 6 tokens, float32", F32, "multiply_tiles<FormatF32, 4, 6, (From)1, false, 4>", WEIGHTS, 64),
    Loop("quantizing", F32, "quantize_turns<E4M3, false>", VALUES, 64),
    Loop("quantizing with sums", F32, "quantize_turns<E4M3, true>", VALUES, 64),
    Loop("scores, 4 queries by 4 keys, bfloat16", F32, "score_queries<4, CachedRows<bfloat16, AskedInOrder> >", VALUES, 128),
    Loop("scores, 4 queries by 4 keys, E4M3", F32, "score_queries<4, CachedRows<float8_e4m3, AskedInOrder> >", VALUES, 256),
    Loop("values, 4 queries, bfloat16", F32, "add_strip<4, 3, 0, CachedRows<bfloat16, AskedInOrder> >", VALUES, 48),
    Loop("values, 4 queries, E4M3", F32, "add_strip<4, 3, 0, CachedRows<float8_e4m3, AskedInOrder> >", VALUES, 48),
]
MODELS = ("znver4", "icelake-server", "sapphirerapids")
# llvm-mca 19 gives vdpbf16ps a third of the rate that was measured on Zen 4, one in a cycle as for float32; and lets
# broadcasts from memory take an arithmetic pipe, which on this processor they do not.
ZEN4 = ((r"^vdpbf16ps", "vfmadd231ps"), (r"^vp?broadcast(ss|d)\s+(?=[^%]*\()", "vmovups "))
MULTIPLY_ADD = re.compile(r"^(vfmadd|vdpbf16)")


def functions(path: pathlib.Path) -> dict:
    """Demangled name, less namespaces -> [(address, instruction)]."""
    listing = subprocess.run(["objdump", "-d", "-w", "-C", "--no-show-raw-insn", path], check=True, text=True,
                             capture_output=True).stdout
    found, body = {}, []
    for line in listing.splitlines():
        head = re.match(r"^[0-9a-f]+ <(.*)>:$", line)
        step = re.match(r"^\s*([0-9a-f]+):\t(.*)$", line)
        if head:
            body = found.setdefault(re.sub(r"octet::|avx512(_bf16)?::|lanes::|\(anonymous namespace\)::", "", head.group(1)), [])
        elif step:
            body.append((step.group(1), re.sub(r"\s*(#|<).*$", "", step.group(2)).strip()))
    return found


def inner_loop(body: list) -> list:
    """The instructions of the loop without loops in it that has most multiply-adds, or else most 512-bit ones, or else
    fewest of all: one token's loop for AMD, not the one that asks for lines in four places."""
    at = {address: i for i, (address, _) in enumerate(body)}
    spans = []
    for end, (_, text) in enumerate(body):
        jump = re.match(r"^j\w+\s+([0-9a-f]+)$", text)
        if jump and at.get(jump.group(1), end + 1) <= end:
            spans.append((at[jump.group(1)], end))
    inner = [s for s in spans if not any(o != s and s[0] <= o[0] and o[1] <= s[1] for o in spans)]
    loops = [[text for _, text in body[begin:end + 1]] for begin, end in inner]
    return max(loops, key=lambda texts: (sum(bool(MULTIPLY_ADD.match(t)) for t in texts), sum("zmm" in t for t in texts),
                                         -len(texts)), default=[])


def analyse(model: str, texts: list, turns: int, figure: str) -> float:
    lines = [re.sub(r"^(j\w+)\s+[0-9a-f]+$", r"\1 .Lnext", t) for t in texts]
    for pattern, replacement in ZEN4 if model == "znver4" else ():
        lines = [re.sub(pattern, replacement, t) for t in lines]
    shown = subprocess.run(["llvm-mca-19", "-mtriple=x86_64", f"-mcpu={model}", f"-iterations={turns}"], check=True, text=True,
                           capture_output=True, input="\n".join([*lines, ".Lnext:"])).stdout
    return float(re.search(rf"{figure}:\s+(\S+)", shown).group(1))


def cycles(model: str, texts: list) -> float:
    """Of one turn, in the steady state."""
    return (analyse(model, texts, 300, "Total Cycles") - analyse(model, texts, 100, "Total Cycles")) / 200


def cell(model: str, texts: list, loop: Loop) -> str:
    if model == "icelake-server" and loop.object == BF16:
        return "none"  # of those instructions
    turn = cycles(model, texts)
    adds = [t for t in texts if MULTIPLY_ADD.match(t)]
    result = f"{turn * 64 / loop.size:.1f}"
    if loop.title.startswith(("1 ", "quantizing")) or not adds:
        return result
    return f"{result}, {analyse(model, adds, 100, 'Block RThroughput') / turn:.2f}"


def row(loop: Loop, found: dict) -> str:
    bodies = [body for name, body in found.items() if loop.function in name]
    if len(bodies) != 1:
        sys.exit(f"kernel_cycles: {len(bodies)} functions are called {loop.function}")
    texts = inner_loop(bodies[0])
    vectors = sum("zmm" in t for t in texts)
    moves = sum(bool(re.match(r"^vmov\S+\s+%zmm\d+,%zmm\d+$", t)) for t in texts)
    spills = sum(bool(re.match(r"^v.*%rsp.*zmm|^v.*zmm.*%rsp", t)) for t in texts)
    cells = " | ".join(cell(model, texts, loop) for model in MODELS)
    return f"| {loop.title} | {loop.size} {loop.unit} | {len(texts)} ({vectors}, {moves}, {spills}) | {cells} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("objects", type=pathlib.Path, help="folder of kernels_<isa>.cpp.o")
    arguments = parser.parse_args()
    if not shutil.which("llvm-mca-19"):
        sys.exit("kernel_cycles.py: llvm-mca-19 is not installed (Debian: llvm-19)")
    found = {name: functions(arguments.objects / name) for name in (BF16, F32)}
    print("| loop | a turn takes | instructions (512-bit, moves, spills) | " + " | ".join(MODELS) + " |")
    print("|---" * (3 + len(MODELS)) + "|")
    for loop in LOOPS:
        print(row(loop, found[loop.object]), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
