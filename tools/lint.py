#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""clang-format over every source, clang-tidy over every source that the build knows. Any finding fails."""
import argparse
import concurrent.futures
import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDERS = ["octet", "apps", "examples", "python", "tests", "bench"]
# Kernel sources are instantiated once per instruction set from the same text; tidying one instance is enough.
TIDY_SKIP = ("kernels_avx2", "kernels_avx512", "emulated")


def tool(name: str) -> str:
    program = ROOT / "build/venv-lint/bin" / name
    if not program.exists():
        sys.exit(f"lint: {program.relative_to(ROOT)} is missing: `make lint` and `make format` install it")
    return str(program)


def sources() -> list:
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", *FOLDERS], cwd=ROOT, text=True,
                            capture_output=True, check=True).stdout.split()
    return sorted(p for p in listed if p.endswith((".h", ".cpp")) and (ROOT / p).exists())


def check_format(fix: bool) -> int:
    arguments = ["-i"] if fix else ["--dry-run", "-Werror"]
    return subprocess.run([tool("clang-format"), *arguments, *sources()], cwd=ROOT).returncode


def compiled_sources(build: pathlib.Path) -> list:
    commands = json.loads((build / "compile_commands.json").read_text())
    files = {str(pathlib.Path(c["file"]).resolve().relative_to(ROOT)) for c in commands
             if pathlib.Path(c["file"]).resolve().is_relative_to(ROOT)}
    return sorted(f for f in files if f.split("/")[0] in ("octet", "apps", "examples", "python") and f.endswith(".cpp")
                  and not any(skip in f for skip in TIDY_SKIP))


def tidy(build: pathlib.Path, jobs: int) -> int:
    program, files, failed = tool("clang-tidy"), compiled_sources(build), 0

    def run(file):
        return file, subprocess.run([program, "-p", str(build), "--quiet", file], cwd=ROOT, text=True,
                                    capture_output=True)

    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        for file, result in pool.map(run, files):
            if result.returncode != 0:
                failed += 1
                print(result.stdout.strip() or result.stderr.strip())
    print(f"lint: clang-tidy {len(files)} files, {failed} with findings")
    return 1 if failed else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build/single", help="folder of compile_commands.json")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--fix-format", action="store_true", help="rewrite the sources instead of checking them")
    arguments = parser.parse_args()
    formatted = check_format(arguments.fix_format)
    if arguments.fix_format:
        return formatted
    print("lint: clang-format " + ("found differences" if formatted else "is content"))
    return 1 if formatted | tidy(ROOT / arguments.build, arguments.jobs) else 0


if __name__ == "__main__":
    sys.exit(main())
