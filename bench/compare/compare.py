#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs Octet beside PyTorch and llama.cpp at the same shapes on the same machine, turn by turn, and prints the table.

    bench/compare/install_peers.sh /somewhere/peers
    bench/compare/compare.py --octet build/release/bin/octet --peers /somewhere/peers --work /somewhere

The weights are random: a checkpoint of Llama-3.2-1B's shapes, llama.cpp's files of the same weights and Octet's FP8 export
are written to the folder of --work once (8 GB). In each round all run one after the other; the table shows the medians of
the ratios of the rounds, so that a machine that changes its speed between two rounds changes both sides.
"""

import argparse
import json
import pathlib
import sys
import tempfile

import contenders
import first_token
import results
from contenders import CompareError

MEASURES = ("throughput", "first-token")
CHECK_IDS = ",".join(str((37 * i + 11) % 128) for i in range(16))
# Of the logits' length: what rounding activations and weights once leaves; a wrong conversion is near 1 and above.
CHECK_LIMITS = {"BF16": 0.03, "Q8_0": 0.1}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--octet", required=True, help="the program")
    parser.add_argument("--peers", required=True, type=pathlib.Path, help="folder of install_peers.sh")
    parser.add_argument("--work", required=True, type=pathlib.Path, help="folder for the files of weights")
    parser.add_argument("--peer", action="append", choices=contenders.PEERS, help="repeatable (default: all)")
    parser.add_argument("--measure", action="append", choices=MEASURES,
                        help="tokens a second, or seconds from start to first token; repeatable (default: both)")
    parser.add_argument("--shape", default="llama-3.2-1b", help="as make_random_checkpoint.py names it, or a folder in --work with a checkpoint")
    parser.add_argument("--threads", type=positive, default=2)
    parser.add_argument("--prompt", type=positive, default=512)
    parser.add_argument("--new", type=positive, default=32)
    parser.add_argument("--rounds", type=int, default=3, help="0: show the rounds of --record")
    parser.add_argument("--record", type=pathlib.Path, metavar="FILE",
                        help="append each round to FILE; the table is of all rounds there with the same settings")
    parser.add_argument("--check", action="store_true",
                        help="time nothing: compare llama.cpp's logits with Octet's, a proof that its files are right")
    parser.add_argument("--json", action="store_true", help="one JSON object: rounds, medians, ratios")
    arguments = parser.parse_args()
    if arguments.rounds < 0:
        parser.error("--rounds: at least 0")
    arguments.peer = arguments.peer or list(contenders.PEERS)
    arguments.measure = arguments.measure or list(MEASURES)
    return arguments


def positive(text):
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return value


def prepare(setup, arguments):
    contenders.check_installed(setup, arguments.peer)
    setup.work.mkdir(parents=True, exist_ok=True)
    contenders.make_checkpoint(setup)
    if "llama.cpp" in arguments.peer:
        contenders.make_gguf(setup)
    if "first-token" in arguments.measure and not arguments.check:
        contenders.make_exported(setup)


def measure_round(setup, arguments, settings):
    entry = {"settings": settings, "machine": contenders.machine(setup), "versions": []}
    if "throughput" in arguments.measure:
        rates = entry["rates"] = {name: contenders.octet_rates(setup, options)
                                  for name, options in contenders.OCTET.items()}
        for name, peer_rates, version in contenders.peer_rates(setup, arguments.peer):
            rates[name] = peer_rates
            entry["versions"].append(version)
    if "first-token" in arguments.measure:
        entry["first_token"] = first_token.measure(setup, arguments.peer)
    return entry


def check_conversion(setup):
    """Whether llama.cpp computes what Octet does from the same weights."""
    if not setup.gguf("BF16").exists():
        raise CompareError("--check: needs llama.cpp among the peers")
    good = True
    with tempfile.TemporaryDirectory(dir=setup.work) as scratch:
        logits = pathlib.Path(scratch) / "logits.npy"
        contenders.run([setup.octet, "logits", str(setup.folder), "--ids", CHECK_IDS, "--quantization", "none", "--dtype",
                        "float32", "--output", str(logits), "--quiet"], "octet logits")
        for kind, limit in CHECK_LIMITS.items():
            with contenders.start_llama(setup, kind) as peer:
                answer = peer.ask(f"logits {logits} {CHECK_IDS}")
            good = good and answer["relative_error"] < limit
            print(f"{kind}: logits differ by {100 * answer['relative_error']:.2f} % of their length (limit "
                  f"{100 * limit:.0f} %), the largest is the same at {answer['same_largest']} of {answer['positions']}")
    return 0 if good else 1


def compare(arguments):
    setup = contenders.Setup(arguments.octet, arguments.peers, arguments.work, arguments.shape, arguments.threads,
                             arguments.prompt, arguments.new)
    settings = {key: getattr(arguments, key) for key in ("shape", "threads", "prompt", "new")}
    rounds = results.read_rounds(arguments.record, settings)
    if arguments.check or arguments.rounds > 0:
        prepare(setup, arguments)
    if arguments.check:
        return check_conversion(setup)
    for _ in range(arguments.rounds):
        rounds.append(measure_round(setup, arguments, settings))
        results.append_round(arguments.record, rounds[-1])
    if not rounds:
        raise CompareError("no rounds: --rounds 0 shows those of --record, which has none with these settings")
    if arguments.json:
        print(json.dumps({"settings": settings, "rounds": rounds, "summary": results.summarize(rounds)}))
    else:
        print("\n".join(results.table(rounds)))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(compare(parse_arguments()))
    except (CompareError, OSError) as error:
        sys.exit(f"compare.py: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
