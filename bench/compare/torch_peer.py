# SPDX-License-Identifier: Apache-2.0
"""A Llama of random bfloat16 weights in plain PyTorch, timed on request.

Reads one request a line ("prefill TOKENS", "decode CONTEXT TOKENS") and answers with tokens a second; run by compare.py.
No framework around it: matrix products by F.linear, attention by scaled_dot_product_attention, a key and value cache
that is written in place. Nothing is sampled and nothing is kept of earlier layers, so that this is the most that PyTorch
can do with such weights.
"""

import json
import sys
import time

import torch
import torch.nn.functional as F


class Llama:
    def __init__(self, shapes):
        self.hidden = shapes["hidden_size"]
        self.heads = shapes["num_attention_heads"]
        self.key_heads = shapes["num_key_value_heads"]
        self.head_dim = shapes.get("head_dim") or self.hidden // self.heads
        inner = shapes["intermediate_size"]
        wide = (self.heads + 2 * self.key_heads) * self.head_dim

        def weight(rows, columns):
            return torch.randn(rows, columns, dtype=torch.bfloat16) * 0.02

        self.layers = [
            (weight(wide, self.hidden), weight(self.hidden, self.heads * self.head_dim),
             weight(2 * inner, self.hidden), weight(self.hidden, inner))
            for _ in range(shapes["num_hidden_layers"])
        ]
        self.table = weight(shapes["vocab_size"], self.hidden)
        self.ones = torch.ones(self.hidden, dtype=torch.bfloat16)
        self.caches = None

    def make_room(self, context):
        shape = (1, self.key_heads, context, self.head_dim)
        self.caches = [(torch.randn(shape, dtype=torch.bfloat16), torch.randn(shape, dtype=torch.bfloat16))
                       for _ in self.layers]

    def step(self, ids, begin):
        """Logits of the last of `ids`, which stand at `begin` and after."""
        count, end = len(ids), begin + len(ids)
        x = self.table[ids]
        split = [self.heads * self.head_dim, self.key_heads * self.head_dim, self.key_heads * self.head_dim]
        for (qkv, out, gate_up, down), (keys, values) in zip(self.layers, self.caches):
            q, k, v = F.linear(F.rms_norm(x, (self.hidden,), self.ones), qkv).split(split, dim=-1)
            q, k, v = (t.view(1, count, -1, self.head_dim).transpose(1, 2) for t in (q, k, v))
            keys[:, :, begin:end] = k
            values[:, :, begin:end] = v
            y = F.scaled_dot_product_attention(q, keys[:, :, :end], values[:, :, :end], is_causal=count > 1,
                                               enable_gqa=True)
            x = x + F.linear(y.transpose(1, 2).reshape(count, -1), out)
            gate, up = F.linear(F.rms_norm(x, (self.hidden,), self.ones), gate_up).chunk(2, dim=-1)
            x = x + F.linear(F.silu(gate) * up, down)
        return F.linear(x[-1:], self.table)


@torch.inference_mode()
def main():
    shapes = json.loads(sys.argv[1])
    torch.set_num_threads(int(sys.argv[2]))
    model = Llama(shapes)
    print(f"PyTorch {torch.__version__}, bfloat16", flush=True)
    for line in sys.stdin:
        what, *numbers = line.split()
        numbers = [int(n) for n in numbers]
        if what == "prefill":
            model.make_room(numbers[0])
            ids = torch.arange(numbers[0])
            begin = time.perf_counter()
            model.step(ids, 0)
            done = numbers[0]
        else:
            context, done = numbers
            model.make_room(context + done)
            begin = time.perf_counter()
            for i in range(done):
                model.step(torch.tensor([7]), context + i)
        print(done / (time.perf_counter() - begin), flush=True)


if __name__ == "__main__":
    main()
