#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/golden/text: what transformers and tokenizers make of hand-written templates, conversations and texts.

    python tools/make_text_golden.py            writes the golden files (needs transformers, tokenizers, jinja2)
    python tools/make_text_golden.py --printable  prints the ranges for octet/text/rust/src/printable.rs

The templates are in tests/golden/text/templates (written for this project), the conversations and texts in the folder
text_golden/ beside this file. Tokenizers are trained here on a few sentences; nothing is fetched.
"""
import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from text_golden import rendering, tokens

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden" / "text"
STORIES = ROOT.parent / "shared" / "models" / "stories260K"


def print_ranges():
    bad = [code for code in range(0x110000) if not chr(code).isprintable()]
    ranges = []
    for code in bad:
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    for first, last in ranges:
        print(f"(0x{first:x}, 0x{last:x}),")


def write(name, data):
    path = GOLDEN / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print(f"{path.name}: {path.stat().st_size} bytes")


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--printable", action="store_true")
    if arguments.parse_args().printable:
        return print_ranges()
    write("rendered.json", rendering.make(GOLDEN / "templates"))
    tokens.make(GOLDEN / "tokenizers", write)
    tokens.make_chats(GOLDEN / "tokenizers", write)
    if STORIES.is_dir():
        tokens.make_shared(STORIES, write)


if __name__ == "__main__":
    main()
