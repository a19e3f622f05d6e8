#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draws the memory of a load over time, from the JSON of `octet ... --load-report FILE`, as an SVG.

    octet generate MODEL --prompt-ids 1,2,3 -n 1 --load-report report.json
    tools/plot_load.py report.json --output load.svg
    tools/plot_load.py a.json b.json --label "per row" --label "per block" --output both.svg

Each report is a line: what the ledger held, second by second. Dashed: the peak that was planned before the first byte
was read. Standard library alone.
"""

import argparse
import json
import math
import sys
from html import escape
from pathlib import Path

WIDTH, HEIGHT = 720, 320
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 28, 44
COLOURS = ("#1b6ca8", "#c4501b", "#2f7d32", "#7b3fa0", "#555555")
MOST_POINTS = 240


def nice_step(span: float, wanted: int) -> float:
    """1, 2 or 5 times a power of ten, so that about `wanted` steps cover the span."""
    raw = max(span, 1e-9) / wanted
    power = 10 ** math.floor(math.log10(raw))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw)


def ticks(span: float, wanted: int) -> list:
    step = nice_step(span, wanted)
    return [i * step for i in range(int(span / step + 1e-9) + 1)]


def read_report(path: Path) -> dict:
    report = json.loads(path.read_text(encoding="utf-8"))
    if len(report.get("timeline", [])) < 2:
        sys.exit(f"{path}: expected a load report with a timeline of at least two samples")
    return report


def thinned(samples: list) -> list:
    step = max(1, len(samples) // MOST_POINTS)
    return samples[::step] + ([samples[-1]] if (len(samples) - 1) % step else [])


class Plot:
    def __init__(self, reports: list):
        self.seconds = max(report["timeline"][-1]["seconds"] for report in reports) or 1e-9
        peak = max(max(report["predicted_peak_bytes"], report["peak_bytes"]) for report in reports)
        self.unit, self.unit_name = (2**30, "GiB") if peak >= 2**30 else (2**20, "MiB")
        self.top = 1.05 * peak / self.unit

    def x(self, seconds: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * seconds / self.seconds

    def y(self, size: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * size / self.top

    def axes(self):
        for value in ticks(self.top, 6):
            yield f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{self.y(value):.1f}" y2="{self.y(value):.1f}" stroke="#ddd"/>'
            yield f'<text x="{LEFT - 6}" y="{self.y(value) + 4:.1f}" text-anchor="end">{value:g}</text>'
        for value in ticks(self.seconds, 8):
            yield f'<text x="{self.x(value):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{value:g}</text>'
        yield f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">seconds</text>'
        yield f'<text x="12" y="{TOP - 10}">{self.unit_name}</text>'

    def line(self, report: dict, label: str, index: int):
        colour = COLOURS[index % len(COLOURS)]
        points = " ".join(f"{self.x(s['seconds']):.1f},{self.y(s['bytes'] / self.unit):.1f}" for s in thinned(report["timeline"]))
        planned = self.y(report["predicted_peak_bytes"] / self.unit)
        yield f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
        yield (f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{planned:.1f}" y2="{planned:.1f}" stroke="{colour}" '
               'stroke-dasharray="6 4"/>')
        yield f'<text x="{LEFT + 12}" y="{TOP + 16 + 18 * index}" fill="{colour}">{escape(label)}</text>'


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reports", nargs="+", type=Path)
    parser.add_argument("--label", action="append", default=[], help="of each report, in order (default: the file's name)")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    reports = [read_report(path) for path in args.reports]
    labels = args.label + [path.stem for path in args.reports[len(args.label):]]
    plot = Plot(reports)
    body = list(plot.axes())
    for index, (report, label) in enumerate(zip(reports, labels)):
        body += plot.line(report, label, index)
    text = (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12" '
            f'fill="#333">\n<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>\n' + "\n".join(body) + "\n</svg>\n")
    args.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
