# SPDX-License-Identifier: Apache-2.0
"""Rounds of compare.py, kept in a file of JSON lines if wanted, and the table of their medians."""

import json
import statistics

from contenders import CompareError

PHASES = ("prefill", "decode")
STARTS = ("cold", "warm")
# Which start of Octet stands beside which of a peer: the same bytes on the disk, and 8 bits each.
BESIDE = {"llama.cpp BF16": "Octet FP8", "llama.cpp Q8_0": "Octet exported"}


def read_rounds(path, settings):
    """The rounds of the file that were measured with the same settings."""
    if path is None or not path.exists():
        return []
    rounds = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            entry = json.loads(line)
            matches = entry["settings"] == settings
        except (ValueError, KeyError, TypeError):
            raise CompareError(f"{path}: line {number} is not a round of compare.py; give another file") from None
        if matches:
            rounds.append(entry)
    return rounds


def append_round(path, entry):
    if path is not None:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")


def names_of(rounds, part):
    """In the order of their first appearance, Octet's first."""
    names = dict.fromkeys(name for entry in rounds for name in entry.get(part, {}))
    return sorted(names, key=lambda name: not name.startswith("Octet"))


def rounds_with(rounds, part, name):
    return sum(name in entry.get(part, {}) for entry in rounds)


def median_of(rounds, part, name, what):
    return statistics.median(entry[part][name][what] for entry in rounds if name in entry.get(part, {}))


def median_ratio(rounds, part, what, over, under):
    """None where no round has both."""
    ratios = [entry[part][over][what] / entry[part][under][what] for entry in rounds
              if over in entry.get(part, {}) and under in entry[part]]
    return statistics.median(ratios) if ratios else None


def summarize(rounds):
    """Medians of every figure, and by how much Octet is ahead: above 1 it is the faster one."""
    rates, starts = names_of(rounds, "rates"), names_of(rounds, "first_token")
    own = [name for name in rates if name.startswith("Octet")]
    return {
        "rounds": {part: {name: rounds_with(rounds, part, name) for name in names_of(rounds, part)}
                   for part in ("rates", "first_token")},
        "rates": {name: {phase: median_of(rounds, "rates", name, phase) for phase in PHASES} for name in rates},
        "rates_ahead": {peer: {octet: {phase: median_ratio(rounds, "rates", phase, octet, peer) for phase in PHASES}
                               for octet in own} for peer in rates if peer not in own},
        "first_token": {name: {what: median_of(rounds, "first_token", name, what) for what in (*STARTS, "read")}
                        for name in starts},
        "first_token_ahead": {peer: {what: median_ratio(rounds, "first_token", what, peer, BESIDE[peer])
                                     for what in STARTS} for peer in starts if peer in BESIDE},
    }


def rate_lines(summary, phase):
    own = [name for name in summary["rates"] if name.startswith("Octet")]
    yield f"{phase:16} {'tokens/s':>9} {'rounds':>7}" + "".join(f"{name:>16}" for name in own)
    for name, rates in summary["rates"].items():
        ahead = summary["rates_ahead"].get(name, {})
        ratios = (ahead[octet][phase] if ahead else None for octet in own)
        count = summary["rounds"]["rates"][name]
        yield (f"  {name:14} {rates[phase]:9.2f} {count:7}" + "".join(f"{ratio:15.2f}x" if ratio else " " * 16 for ratio in ratios)).rstrip()


def start_lines(summary):
    yield f"{'first token':16} {'cold, s':>9} {'warm, s':>9} {'reading alone, s':>17} {'rounds':>7}  Octet ahead, cold, warm"
    for name, seconds in summary["first_token"].items():
        ahead = summary["first_token_ahead"].get(name)
        beside = f"  {ahead['cold']:.2f}x, {ahead['warm']:.2f}x of {BESIDE[name]}" if ahead and ahead["cold"] else ""
        count = summary["rounds"]["first_token"][name]
        yield f"  {name:14} {seconds['cold']:9.2f} {seconds['warm']:9.2f} {seconds['read']:17.2f} {count:7}{beside}"


def table(rounds):
    summary, last = summarize(rounds), rounds[-1]
    settings = last["settings"]
    versions = dict.fromkeys(version for entry in rounds for version in entry["versions"])
    yield "; ".join([f"{last['machine']['cpu']}, {last['machine']['backend']}", *versions])
    yield (f"{settings['shape']}, prompt of {settings['prompt']}, {settings['new']} new, {settings['threads']} threads; medians")
    if summary["rates"]:
        for phase in PHASES:
            yield from rate_lines(summary, phase)
    if summary["first_token"]:
        yield from start_lines(summary)
