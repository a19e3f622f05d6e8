#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Holds the floors of docs/architecture.md: no include runs upward, no folder includes itself in a circle, and
nothing below apps/ prints, exits or reads the environment."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

# Folder -> what it may include besides itself (the table of docs/architecture.md).
FLOORS = {
    "octet/base": set(),
    "octet/core": {"octet/base"},
    "octet/text": {"octet/base"},
    "octet/comm": {"octet/base"},
    "octet/checkpoint": {"octet/core", "octet/base"},
    "octet/backend": {"octet/core", "octet/base"},
    "octet/quant": {"octet/backend", "octet/core", "octet/base"},
    "octet/layers": {"octet/quant", "octet/comm", "octet/backend", "octet/core", "octet/base"},
    "octet/models": {"octet/layers", "octet/quant", "octet/comm", "octet/backend", "octet/core", "octet/base"},
    "octet/loading": {"octet/layers", "octet/checkpoint", "octet/quant", "octet/comm", "octet/backend", "octet/core", "octet/base"},
    "octet/engine": {"octet/models", "octet/layers", "octet/comm", "octet/backend", "octet/core", "octet/base"},
    "octet/llm": {"octet/engine", "octet/models", "octet/loading", "octet/layers", "octet/quant", "octet/backend",
                  "octet/checkpoint", "octet/text", "octet/comm", "octet/core", "octet/base"},
}
# Where only some headers of a folder may be seen.
ONLY = {
    ("octet/quant", "octet/backend"): {"octet/backend/backend.h"},
    ("octet/layers", "octet/backend"): {"octet/backend/backend.h"},
    ("octet/models", "octet/backend"): {"octet/backend/backend.h"},
    ("octet/loading", "octet/backend"): {"octet/backend/backend.h"},
    ("octet/engine", "octet/backend"): {"octet/backend/backend.h"},
    ("octet/layers", "octet/comm"): {"octet/comm/communicator.h"},
    ("octet/models", "octet/comm"): {"octet/comm/communicator.h"},
    ("octet/loading", "octet/comm"): {"octet/comm/communicator.h"},
    ("octet/engine", "octet/comm"): {"octet/comm/communicator.h"},
    ("octet/loading", "octet/layers"): {"octet/layers/parameter.h"},
}
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)
FORBIDDEN = {
    r"\bstd::(cout|cerr|clog)\b": "prints",
    r"\b(printf|fprintf|puts)\s*\(": "prints",
    r"\b(std::)?(exit|_exit|abort|quick_exit|terminate)\s*\(": "ends the process",
    r"\b(std::)?(getenv|secure_getenv|setenv)\s*\(": "reads the environment",
}


def folder_of(path: str) -> str:
    return "/".join(path.split("/")[:2])


def without_comments(text: str) -> str:
    return re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.DOTALL)


def check_includes(path: str, text: str, edges: dict) -> list:
    faults = []
    here = folder_of(path)
    for included in INCLUDE.findall(text):
        if not included.startswith("octet/"):
            continue
        there = folder_of(included)
        edges.setdefault(path, set()).add(included)
        if there == here:
            continue
        if there not in FLOORS.get(here, set()):
            faults.append(f"{path}: includes {included}, but {here} may only see {sorted(FLOORS.get(here, []))}")
        allowed = ONLY.get((here, there))
        if allowed is not None and included not in allowed:
            faults.append(f"{path}: includes {included}, but of {there} {here} may only see {sorted(allowed)}")
    return faults


def find_circle(edges: dict) -> list:
    """The first circle among header includes, as a list of paths, or an empty list."""
    state = {}

    def visit(path, trail):
        state[path] = "open"
        for included in sorted(edges.get(path, ())):
            if state.get(included) == "open":
                return trail + [path, included]
            if included not in state:
                circle = visit(included, trail + [path])
                if circle:
                    return circle
        state[path] = "done"
        return []

    for path in sorted(edges):
        if path not in state:
            circle = visit(path, [])
            if circle:
                return circle
    return []


def main() -> int:
    faults, edges = [], {}
    files = sorted(p for p in (ROOT / "octet").rglob("*") if p.suffix in {".h", ".cpp", ".cu", ".cuh"})
    for file in files:
        path = file.relative_to(ROOT).as_posix()
        text = file.read_text(encoding="utf-8")
        if folder_of(path) not in FLOORS:
            faults.append(f"{path}: lies in no folder of the floors table")
            continue
        faults += check_includes(path, text, edges)
        code = without_comments(text)
        for pattern, what in FORBIDDEN.items():
            if re.search(pattern, code):
                faults.append(f"{path}: {what}, which only apps/ may do")
    circle = find_circle(edges)
    if circle:
        faults.append("includes run in a circle: " + " -> ".join(circle))
    for fault in faults:
        print(fault)
    print(f"check_layers: {len(files)} files, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
