#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs every test of a built preset (C++ and the program through ctest, the Python package
through pytest) and closes with one line:
N passed, N failed, N skipped."""
import argparse
import os
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


def pytest(preset: str) -> tuple:
    """The Python package of the build folder, where it was built; those of its tests that need no PyTorch."""
    package, python = ROOT / "build" / preset / "python", ROOT / "build" / "venv" / "bin" / "python"
    if not list(package.glob("octet/_octet*.so")) or not python.exists():
        return 0, 0, 0
    report = ROOT / "build" / preset / "pytest.xml"
    report.unlink(missing_ok=True)
    subprocess.run([python, "-B", "-m", "pytest", "-q", f"--junitxml={report}", "tests/python"], cwd=ROOT,
                   stdin=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(package)})
    if not report.exists():
        return 0, 1, 0
    suite = xml.etree.ElementTree.parse(report).getroot().find("testsuite")
    count = {name: int(suite.get(name)) for name in ("tests", "failures", "errors", "skipped")}
    failed = count["failures"] + count["errors"]
    return count["tests"] - failed - count["skipped"], failed, count["skipped"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="dev", help="which build's tests: dev, asan or tsan")
    parser.add_argument("--jobs", type=int, default=2, help="tests at a time")
    parser.add_argument("--label", default="", help="only tests with this ctest label")
    arguments = parser.parse_args()
    counts = [ctest(arguments.preset, arguments.jobs, arguments.label)]
    if not arguments.label:
        counts.append(pytest(arguments.preset))
    passed, failed, skipped = (sum(column) for column in zip(*counts))
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or passed == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
