#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs a program of this build on an emulated processor with AVX-512: Debian's Bochs, its Tiger Lake (F, BW, VL, DQ,
VBMI), under a Debian kernel, so that the dispatcher asks a real CPUID and XGETBV and the instructions that the compiler
made are carried out, not their intrinsics. With --bf16 the one instruction of BF16 that the kernels use, which Bochs 2.7
lacks, is carried out by a signal handler (tools/emulator/bf16_traps.cpp). About 1/200 of a machine's speed.

Bochs 2.7 rounds ties away from zero when it narrows to float16 (VCVTPS2PH in every encoding, those included that are right on
machines), so the two conformance tests that write much float16 fail there: KvStoreConformance.WritesTheSlotsOfEveryType...
and LoadingConformance.StoresRealsWithOneRounding.

Needs: apt-get install bochs bochs-term bochsbios vgabios grub-pc-bin grub-common xorriso mtools cpio busybox-static
       (and apt-get download for the kernel, unless --kernel names one).

  tools/run_emulated.py build/dev/bin/cpu_ops_kernels_test --gtest_filter='*avx512*'
  tools/run_emulated.py --bf16 build/dev/bin/conformance_test --gtest_filter='*avx512_bf16_threads1*'
"""
import argparse
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
TOOLS = ("bochs-bin", "grub-mkrescue", "xorriso", "mformat", "cpio", "busybox", "objdump", "strip", "g++")
STATUS = "the program ended with status "
BEGIN = "the program begins"

GRUB = """set timeout=0
linux /boot/vmlinuz console=ttyS0 print-fatal-signals=1 mitigations=off clearcpuid=515,580,321,323 nokaslr tsc=reliable panic=-1
initrd /boot/initrd
boot
"""
# What Linux must not use of this processor: protection keys (515) and compacted saved states (321, 323), whose sizes Bochs
# 2.7 announces wrongly, so that Linux would do without AVX; and fast short moves of strings (580), which it announces
# without those of any length.

INIT = """#!/bin/busybox sh
/bin/busybox mkdir -p /proc /dev /tmp
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs dev /dev
exec </dev/null >/dev/ttyS0 2>&1
/bin/busybox stty -F /dev/ttyS0 -onlcr
cd /tmp
/bin/busybox echo "{begin}"
{environment} {command}
/bin/busybox echo "{status}$?"
/bin/busybox sleep 1000000
"""

BOCHS = """plugin_ctrl: unmapped=1, biosdev=1, speaker=0, extfpuirq=1, parallel=0, serial=1
display_library: rfb, options="timeout=0"
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
megs: {megabytes}
cpu: model={model}, ips=100000000, reset_on_triple_fault=0, ignore_bad_msrs=1
clock: sync=none, time0=utc
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=cdrom, path=disc.iso, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev=serial.txt
log: bochs.log
panic: action=fatal
error: action=ignore
info: action=ignore
debug: action=ignore
"""


def run(*command, **options):
    return subprocess.run([str(part) for part in command], check=True, **options)


def output(*command):
    return run(*command, text=True, capture_output=True).stdout


def find_kernel(work: pathlib.Path) -> pathlib.Path:
    depends = output("apt-cache", "depends", "--important", "linux-image-cloud-amd64")
    package = re.search(r"linux-image-[0-9]\S*", depends)
    if package is None:
        sys.exit("run_emulated: apt knows no linux-image-cloud-amd64: name a kernel by --kernel")
    run("apt-get", "-q", "-q", "download", package.group(), cwd=work, stderr=subprocess.DEVNULL)
    run("dpkg-deb", "-x", next(work.glob("linux-image-*.deb")), work / "kernel")
    return next((work / "kernel/boot").glob("vmlinuz-*"))


def put(source: pathlib.Path, root: pathlib.Path) -> None:
    """Copies a file or a folder to where it lies here."""
    target = root / source.relative_to("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        shutil.copy(source, target)


def put_libraries(program: pathlib.Path, root: pathlib.Path) -> None:
    for library in re.findall(r"(/\S+) \(0x", output("ldd", program)):
        put(pathlib.Path(library), root)


def hide_cpuid(program: pathlib.Path) -> None:
    """Overwrites every CPUID of the program by UD2, which bf16_traps answers."""
    listing = output("objdump", "-d", program)
    addresses = [int(a, 16) for a in re.findall(r"^\s*([0-9a-f]+):\t0f a2 \s*\tcpuid", listing, re.MULTILINE)]
    text = re.search(r"\s\.text\s+\S+\s+(\S+)\s+\S+\s+(\S+)", output("objdump", "-h", program))
    shift = int(text.group(2), 16) - int(text.group(1), 16)
    data = bytearray(program.read_bytes())
    for address in addresses:
        if data[address + shift:address + shift + 2] != b"\x0f\xa2":
            sys.exit(f"run_emulated: no CPUID at {address:#x} of {program}")
        data[address + shift:address + shift + 2] = b"\x0f\x0b"
    if not addresses:
        sys.exit(f"run_emulated: {program} asks no CPUID")
    program.write_bytes(data)


def make_root(arguments, root: pathlib.Path) -> None:
    for folder in ("bin", "dev", "proc", "tmp"):
        (root / folder).mkdir(parents=True)
    shutil.copy(shutil.which("busybox"), root / "bin/busybox")
    program = root / "bin" / arguments.program.name
    run("strip", "-o", program, arguments.program)
    put_libraries(arguments.program, root)
    for path in arguments.file:
        put(path.resolve(), root)
    environment = "LD_BIND_NOW=1"  # Bochs 2.7 does not restore what XSAVEC of the lazy binding saved
    if arguments.bf16:
        hide_cpuid(program)
        run("g++", "-std=c++20", "-O2", "-w", "-shared", "-fPIC", "-o", root / "bin/bf16_traps.so",
            ROOT / "tools/emulator/bf16_traps.cpp")
        environment += " LD_PRELOAD=/bin/bf16_traps.so"
    command = shlex.join([f"/bin/{arguments.program.name}", *arguments.arguments])
    init = root / "init"
    init.write_text(INIT.format(begin=BEGIN, status=STATUS, environment=environment, command=command))
    init.chmod(0o755)


def make_disc(arguments, work: pathlib.Path) -> None:
    boot = work / "disc/boot"
    (boot / "grub").mkdir(parents=True)
    (boot / "grub/grub.cfg").write_text(GRUB)
    shutil.copy(arguments.kernel or find_kernel(work), boot / "vmlinuz")
    names = sorted(str(p.relative_to(work / "root")) for p in (work / "root").rglob("*"))
    with open(boot / "initrd", "wb") as into:
        run("cpio", "-o", "-H", "newc", "--quiet", cwd=work / "root", stdout=into, input="\n".join(names).encode())
    run("grub-mkrescue", "-o", work / "disc.iso", work / "disc", capture_output=True)


def follow(emulator, serial: pathlib.Path, timeout: float) -> int:
    """Shows what the program prints until it ends; its exit status."""
    shown, began, deadline = 0, False, time.monotonic() + timeout
    while True:
        stopped = emulator.poll() is not None
        text = serial.read_bytes().decode(errors="replace") if serial.exists() else ""
        if not began and BEGIN in text:
            began, shown = True, text.index(BEGIN)
        end = re.search(re.escape(STATUS) + r"(\d+)", text)
        if began:
            print(text[shown:end.end() if end else None], end="", flush=True)
            shown = len(text)
        if end:
            print()
            return int(end.group(1))
        if stopped or time.monotonic() > deadline:
            print(text[-2000:] if not began else "", "run_emulated: " + ("the emulator ended early" if stopped else "out of time"))
            return 124
        time.sleep(1)


def emulate(arguments, work: pathlib.Path) -> int:
    (work / "bochsrc").write_text(BOCHS.format(model=arguments.model, megabytes=arguments.megabytes))
    (work / "go").write_text("c\n")  # Debian's Bochs starts in its debugger
    with open(work / "bochs.out", "wb") as log:
        emulator = subprocess.Popen(["nice", "-n", "19", "bochs-bin", "-q", "-f", "bochsrc", "-rc", "go"], cwd=work,
                                    stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            return follow(emulator, work / "serial.txt", arguments.timeout)
        finally:
            emulator.kill()
            emulator.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tigerlake", help="a processor of 'bochs --help cpu' (corei7_skylake_x: no VBMI)")
    parser.add_argument("--bf16", action="store_true", help="let the processor have BF16")
    parser.add_argument("--kernel", type=pathlib.Path, help="vmlinuz to boot (by default that of linux-image-cloud-amd64)")
    parser.add_argument("--file", type=pathlib.Path, action="append", default=[], help="file or folder that the program needs")
    parser.add_argument("--megabytes", type=int, default=1024, help="memory of the emulated machine")
    parser.add_argument("--timeout", type=float, default=7200, help="seconds")
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the emulator ends too
    missing = [name for name in TOOLS if shutil.which(name) is None]
    if missing:
        sys.exit(f"run_emulated: missing {', '.join(missing)}: see --help for the packages")
    with tempfile.TemporaryDirectory(prefix="octet-emulated-") as folder:
        work = pathlib.Path(folder)
        make_root(arguments, work / "root")
        make_disc(arguments, work)
        return emulate(arguments, work)


if __name__ == "__main__":
    sys.exit(main())
