#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs every test of a built preset (C++ through ctest, the Rust library, the Python tools) and closes with one line:
N passed, N failed, N skipped."""
import argparse
import pathlib
import subprocess
import sys
import xml.etree.ElementTree

ROOT = pathlib.Path(__file__).resolve().parent.parent


def ctest(preset: str, jobs: int, label: str) -> tuple:
    report = ROOT / "build" / preset / "ctest.xml"
    report.unlink(missing_ok=True)
    command = ["ctest", "--preset", preset, "--output-junit", str(report), "-j", str(jobs), "--progress"]
    if label:
        command += ["-L", label]
    subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL)
    if not report.exists():
        return 0, 1, 0
    passed = failed = skipped = 0
    for case in xml.etree.ElementTree.parse(report).getroot().iter("testcase"):
        if case.find("failure") is not None or case.get("status") == "fail":
            failed += 1
        elif case.find("skipped") is not None or case.get("status") in ("notrun", "disabled"):
            skipped += 1
            print(f"skipped: {case.get('name')}")
        else:
            passed += 1
    return passed, failed, skipped


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="dev", help="which build's tests: dev, asan or tsan")
    parser.add_argument("--jobs", type=int, default=2, help="tests at a time")
    parser.add_argument("--label", default="", help="only tests with this ctest label")
    arguments = parser.parse_args()
    passed, failed, skipped = ctest(arguments.preset, arguments.jobs, arguments.label)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or passed == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
