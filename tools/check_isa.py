#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Holds every object of the CPU backend to the instructions that its instruction set has: an instruction of another
would end the program on machines on which the dispatcher chose that object. The assembler judges: what objdump shows of
an object is assembled again with exactly the extensions that octet/base/cpu_features.cpp asks CPUID for.

  tools/check_isa.py build/dev/octet/backend/cpu/CMakeFiles/octet_backend_cpu.dir/*.o"""
import argparse
import pathlib
import re
import subprocess
import sys

AVX2 = ["avx", "avx2", "fma", "f16c"]
AVX512 = [*AVX2, "avx512f", "avx512bw", "avx512vl", "avx512dq"]
AVX512_BF16 = [*AVX512, "avx512_bf16", "avx512vbmi"]
EXTENSIONS = {"portable": [], "avx2": AVX2, "avx512": AVX512, "avx512_bf16": AVX512_BF16,
              "amx_bf16": [*AVX512_BF16, "amx_tile", "amx_bf16"]}

LINE = re.compile(r"^\s*[0-9a-f]+:\t([0-9a-f ]+)\t(.*)$")
KERNELS = re.compile(r"kernels_(portable|avx2|avx512|avx512_bf16|amx_bf16)\.cpp\.o$")
# What an assembler does not take as it is shown: places in the code, and prefixes of nothing but padding.
PLACE = re.compile(r"^(j\w+|call\w*|loop\w*|xbegin)\s+(?!\*).*$")
PADDING = re.compile(r"^((cs|ds|data16|rex\S*|addr32)\s+)*(nop\w*\b.*|xchg\s+%ax,%ax|lea\s+0x0\(.*)?$")
# TZCNT is BSF to processors that lack it; compilers use it where both give the same.
AS_BEFORE = {"tzcnt": "bsf"}


def instructions(objdump: str, path: pathlib.Path):
    """The different instructions of an object, and whether any is in the encoding that only AVX-512 has."""
    listing = subprocess.run([objdump, "-d", "-w", path], check=True, text=True, capture_output=True).stdout
    found, evex = set(), []
    for line in listing.splitlines():
        match = LINE.match(line)
        if match is None:
            continue
        text = re.sub(r"\s*(#|<).*$", "", match.group(2)).strip()
        if PADDING.match(text) or PLACE.match(text):
            continue
        if match.group(1).startswith("62 "):
            evex.append(text)
        found.add(" ".join(AS_BEFORE.get(word, word) for word in text.split()))
    return sorted(found), evex


def refused(assembler: str, lines: list, extensions: list) -> list:
    """Those that the assembler does not take with these extensions alone."""
    arch = "+".join(["generic64", "fxsr", *extensions])
    done = subprocess.run([assembler, "--64", f"-march={arch}", "-o", "/dev/null", "-"], input="\n".join(lines) + "\n",
                          text=True, capture_output=True)
    if done.returncode == 0:
        return []
    numbers = re.findall(r"\{standard input\}:(\d+): Error: (.*)", done.stderr)
    return [f"{lines[int(number) - 1]}: {why}" for number, why in numbers] or [done.stderr.strip()]


def check(arguments, path: pathlib.Path) -> list:
    match = KERNELS.search(path.name)
    isa = match.group(1) if match else "portable"
    lines, evex = instructions(arguments.objdump, path)
    faults = refused(arguments.assembler, lines, EXTENSIONS[isa])
    if not isa.startswith(("avx512", "amx")):
        faults += [f"{text}: encoded for AVX-512" for text in evex]
    return [f"{path.name}: {fault}" for fault in faults]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objdump", default="objdump")
    parser.add_argument("--assembler", default="as")
    parser.add_argument("objects", type=pathlib.Path, nargs="+")
    arguments = parser.parse_args()
    kernels = [path for path in arguments.objects if KERNELS.search(path.name)]
    if not kernels:
        sys.exit("check_isa: no object of a kernels_<isa>.cpp among these")
    faults = [fault for path in arguments.objects for fault in check(arguments, path)]
    for fault in faults[:40]:
        print(fault)
    print(f"check_isa: {len(arguments.objects)} objects, {len(kernels)} of kernels, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
