# SPDX-License-Identifier: Apache-2.0
"""llama.cpp with the weights of a GGUF file, timed on request.

    python llama_peer.py FILE.gguf THREADS POSITIONS            one request a line, see below
    python llama_peer.py FILE.gguf THREADS --first 1,2,3        seconds from an empty library to the token after these ids

Requests: "prefill TOKENS" and "decode CONTEXT TOKENS" are answered with tokens a second, "logits FILE.npy 1,2,3" with the
relative error of these logits of another program and the positions whose largest logit is the same. Run by compare.py.
llama.cpp's own defaults everywhere but for the threads and the length of the context; nothing is sampled.
"""

import ctypes
import json
import os
import sys
import time

import llama_cpp.llama_cpp as low
import numpy as np

SILENT = low.llama_log_callback(lambda level, text, data: None)


class Llama:
    def __init__(self, path, threads, positions):
        low.llama_log_set(SILENT, None)
        low.llama_backend_init()
        self.model = low.llama_model_load_from_file(os.fsencode(path), low.llama_model_default_params())
        if not self.model:
            sys.exit(f"llama_peer.py: {path}: llama.cpp does not load it")
        parameters = low.llama_context_default_params()
        parameters.n_ctx = parameters.n_batch = positions
        parameters.n_threads = parameters.n_threads_batch = threads
        self.context = low.llama_init_from_model(self.model, parameters)
        if not self.context:
            sys.exit(f"llama_peer.py: {path}: no context of {positions} positions")
        self.memory = low.llama_get_memory(self.context)
        self.vocabulary = low.llama_vocab_n_tokens(low.llama_model_get_vocab(self.model))
        self.filled = 0

    def keep(self, positions):
        """Forgets the positions from here on."""
        low.llama_memory_seq_rm(self.memory, 0, positions, -1)
        self.filled = positions

    def step(self, ids, everywhere=False):
        """Logits [1 or T, V] of the last of `ids`, or of all of them; a view until the next step."""
        count = len(ids)
        batch = low.llama_batch_init(count, 0, 1)
        batch.n_tokens = count
        for i, token in enumerate(ids):
            batch.token[i], batch.pos[i], batch.n_seq_id[i] = token, self.filled + i, 1
            batch.seq_id[i][0], batch.logits[i] = 0, everywhere or i == count - 1
        status = low.llama_decode(self.context, batch)
        low.llama_batch_free(batch)
        if status != 0:
            sys.exit(f"llama_peer.py: llama_decode of {count} tokens after {self.filled} failed: {status}")
        self.filled += count
        rows = count if everywhere else 1
        begin = low.llama_get_logits_ith(self.context, 0 if everywhere else -1)
        return np.ctypeslib.as_array(ctypes.cast(begin, ctypes.POINTER(ctypes.c_float)), (rows, self.vocabulary))

    def prefill(self, tokens):
        self.keep(0)
        begin = time.perf_counter()
        self.step(range(tokens))
        return tokens / (time.perf_counter() - begin)

    def decode(self, context, tokens):
        if self.filled < context:
            self.prefill(context)
        self.keep(context)
        begin = time.perf_counter()
        for _ in range(tokens):
            self.step([7])
        return tokens / (time.perf_counter() - begin)

    def compare_logits(self, path, ids):
        theirs = np.load(path)
        self.keep(0)
        own = self.step(ids, everywhere=True)
        return {"relative_error": float(np.linalg.norm(own - theirs) / np.linalg.norm(theirs)),
                "same_largest": int((own.argmax(axis=1) == theirs.argmax(axis=1)).sum()), "positions": len(ids)}


def parse_ids(text):
    return [int(part) for part in text.split(",")]


def instruction_sets():
    """Those that this build of llama.cpp uses, of a text such as "CPU : SSE3 = 1 | AVX2 = 1 | OPENMP = 1 | "."""
    parts = low.llama_print_system_info().decode().rpartition(" : ")[2].split("|")
    return " ".join(part.split(" = ")[0].strip() for part in parts if part.strip().endswith("= 1"))


def first_token(path, threads, ids):
    begin = time.perf_counter()
    token = int(Llama(path, threads, max(256, len(ids))).step(ids).argmax())
    return {"seconds": time.perf_counter() - begin, "token": token}


def serve(model):
    for line in sys.stdin:
        what, *rest = line.split()
        if what == "logits":
            answer = model.compare_logits(rest[0], parse_ids(rest[1]))
        else:
            answer = {"prefill": model.prefill, "decode": model.decode}[what](*map(int, rest))
        print(json.dumps(answer), flush=True)


def main():
    path, threads, rest = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
    if rest[0] == "--first":
        print(json.dumps(first_token(path, threads, parse_ids(rest[1]))), flush=True)
        return
    from importlib.metadata import version

    model = Llama(path, threads, int(rest[0]))
    print(f"llama.cpp of llama-cpp-python {version('llama-cpp-python')} ({instruction_sets()})", flush=True)
    serve(model)


if __name__ == "__main__":
    main()
