#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Trains the bundled demo model: a small Llama with grouped-query attention.

Reads plain UTF-8 texts, holds out the last part of each, trains a byte-level BPE vocabulary and
the model on the rest (CPU, float32), and writes a Hugging Face folder with bfloat16 weights:

    tools/train_demo.py --text tinyshakespeare.txt --text frankenstein.txt --output models/demo

Needs PyTorch, transformers, tokenizers and safetensors; Octet itself needs none of them. The same
command, seed, thread count, machine kind and library versions give the same model; --minutes
trades that for a wall-clock bound.
"""

import argparse
import json
import math
import random
import re
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.utils import logging

BOS, EOS, PAD = "<|begin_of_text|>", "<|end_of_text|>", "<|pad|>"
USER, ASSISTANT, END_OF_TURN = "<|user|>", "<|assistant|>", "<|end_of_turn|>"
ROLES = {"bos": BOS, "eos": EOS, "pad": PAD}
SPECIAL_TOKENS = [BOS, EOS, PAD, USER, ASSISTANT, END_OF_TURN]

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|assistant|>' if message['role'] == 'assistant' else '<|user|>' }}"
    "{{ '\\n' + message['content'] | trim + '<|end_of_turn|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)

CONFIG_FIELDS = (
    "model_type vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads "
    "num_key_value_heads head_dim hidden_act max_position_embeddings rms_norm_eps attention_bias "
    "mlp_bias tie_word_embeddings initializer_range bos_token_id eos_token_id pad_token_id"
).split()

ROPE_THETA = 10000.0
SIZE_LIMIT_BYTES = 8_000_000
IGNORED_LABEL = -100


def split_held_out(text, fraction):
    """Cuts the last `fraction` of a text off, at the first paragraph break from there on."""
    blank = text.find("\n\n", int(len(text) * (1.0 - fraction)))
    if blank < 0:
        raise SystemExit("a text needs a paragraph break (an empty line) in its held-out part")
    return text[: blank + 2], text[blank + 2 :]


def dialogue_turns(text):
    """The speeches of a play in order: blocks `Name:` + lines, the name dropped."""
    turns = []
    for block in text.split("\n\n"):
        name, _, speech = block.partition("\n")
        if re.fullmatch(r"[A-Z][A-Za-z' ]{1,30}:", name.strip()) and speech.strip():
            turns.append(speech.strip())
    return turns


def train_tokenizer(texts, vocab_size):
    """A byte-level BPE tokenizer that puts <|begin_of_text|> before every text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A",
        pair=f"{BOS} $A {BOS} $B",
        special_tokens=[(BOS, tokenizer.token_to_id(BOS))],
    )
    return tokenizer


def write_tokenizer(tokenizer, folder, positions):
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {f"{role}_token": token for role, token in ROLES.items()} | {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_max_length": positions,
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


@dataclass
class Document:
    """One training text: its token ids and the positions where a paragraph begins."""

    ids: torch.Tensor  # [N]
    starts: torch.Tensor  # [P], ascending, the first is 0


def encode_document(tokenizer, text):
    encoding = tokenizer.encode(text, add_special_tokens=False)
    begins = {0} | {match.end() for match in re.finditer(r"\n\n", text)}
    starts = [i for i, (begin, _) in enumerate(encoding.offsets) if begin in begins]
    ids = torch.tensor(encoding.ids + [tokenizer.token_to_id(EOS)])
    return Document(ids, torch.tensor(sorted(set(starts) | {0})))


class Windows:
    """Draws training windows; the draw of a step depends on the seed and the step alone."""

    def __init__(self, tokenizer, texts, length, chat_share):
        self.bos = tokenizer.token_to_id(BOS)
        self.pad = tokenizer.token_to_id(PAD)
        self.length = length
        self.chat_share = chat_share
        self.documents = [encode_document(tokenizer, text) for text in texts]
        self.weights = [len(document.ids) for document in self.documents]
        turns = [self._encode_turns(tokenizer, text) for text in texts]
        self.plays = [play for play in turns if len(play) >= 64]

    @staticmethod
    def _encode_turns(tokenizer, text):
        rows = []
        for speech in dialogue_turns(text):
            turns = [f"{role}\n{speech}{END_OF_TURN}\n" for role in (USER, ASSISTANT)]
            rows.append([tokenizer.encode(turn, add_special_tokens=False).ids for turn in turns])
        return rows

    def _text_window(self, draw):
        document = draw.choices(self.documents, self.weights)[0]
        # A later start would leave too little; half of the windows begin a paragraph, because
        # that is how prompts begin, and half anywhere, because that is how evaluation cuts.
        start = draw.randrange(max(1, len(document.ids) - self.length // 2))
        if draw.random() < 0.5:
            place = torch.searchsorted(document.starts, start, right=True).item() - 1
            start = document.starts[place].item()
        return document.ids[start : start + self.length].tolist()

    def _chat_window(self, draw):
        turns = draw.choice(self.plays)
        first = draw.randrange(len(turns) - 32)
        ids = []
        for i, (as_user, as_reply) in enumerate(turns[first:]):
            ids += as_reply if i % 2 else as_user
            if len(ids) >= self.length:
                break
        return ids[: self.length]

    def batch(self, seed, step, rows):
        """Inputs [B, T] and labels [B, T] of one step."""
        draw = random.Random(f"{seed}/{step}")
        inputs = torch.full((rows, self.length), self.pad)
        labels = torch.full((rows, self.length), IGNORED_LABEL)
        for row in range(rows):
            chat = bool(self.plays) and draw.random() < self.chat_share
            ids = self._chat_window(draw) if chat else self._text_window(draw)
            inputs[row, : len(ids)] = torch.tensor([self.bos] + ids[:-1])
            labels[row, : len(ids)] = torch.tensor(ids)
        return inputs, labels


def held_out_windows(tokenizer, texts, length):
    """Held-out texts without overlap, each window after its own <|begin_of_text|>."""
    bos = tokenizer.token_to_id(BOS)
    windows = []
    for text in texts:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        windows += [ids[i : i + length - 1] for i in range(0, len(ids), length - 1)]
    return [torch.tensor([bos] + window) for window in windows]


@torch.no_grad()
def held_out_loss(model, windows):
    """Mean natural-log loss per token over the windows."""
    model.eval()
    total, count = 0.0, 0
    for window in windows:
        logits = model(input_ids=window[None, :-1]).logits[0]
        total += F.cross_entropy(logits.float(), window[1:], reduction="sum").item()
        count += len(window) - 1
    return total / count


def make_model(arguments, tokenizer):
    """The Llama in float32; embedding and branch outputs are dropped out while training."""
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=arguments.hidden,
        intermediate_size=arguments.intermediate,
        num_hidden_layers=arguments.layers,
        num_attention_heads=arguments.heads,
        num_key_value_heads=arguments.kv_heads,
        head_dim=arguments.head_dim,
        max_position_embeddings=arguments.positions,
        rope_parameters={"rope_type": "default", "rope_theta": ROPE_THETA},
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        **{f"{role}_token_id": tokenizer.token_to_id(token) for role, token in ROLES.items()},
        use_cache=False,
    )
    model = LlamaForCausalLM(config).float()

    def drop(module, _inputs, output):
        if not module.training:
            return output
        if isinstance(output, tuple):  # attention: the output and its weights
            return (F.dropout(output[0], arguments.dropout), *output[1:])
        return F.dropout(output, arguments.dropout)

    model.model.embed_tokens.register_forward_hook(drop)
    for layer in model.model.layers:
        layer.self_attn.register_forward_hook(drop)
        layer.mlp.register_forward_hook(drop)
    return model


def orthogonalize(matrices):
    """Replaces the singular values of each of [B, m, n], m <= n, by about one (Newton-Schulz)."""
    x = matrices / (matrices.flatten(1).norm(dim=1)[:, None, None] + 1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x


class Muon(torch.optim.Optimizer):
    """Momentum with orthogonalized updates, for the matrices of the layers.

    Learns from a small text in fewer steps than AdamW. The update is scaled to the root mean
    square that an AdamW step would have, so one learning rate and weight decay suit both.
    """

    def __init__(self, params, lr, weight_decay, momentum=0.95):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            # Matrices of one shape go through Newton-Schulz together.
            shapes = {}
            for p in group["params"]:
                shapes.setdefault(tuple(sorted(p.shape)), []).append(p)
            for params in shapes.values():
                self._step_alike(group, params)

    def _step_alike(self, group, params):
        updates = []
        for p in params:
            state = self.state[p]
            if not state:
                state["momentum"] = torch.zeros_like(p)
            state["momentum"].lerp_(p.grad, 1 - group["momentum"])
            update = p.grad.lerp(state["momentum"], group["momentum"])
            updates.append(update.mT if p.shape[0] > p.shape[1] else update)
        scale = 0.2 * math.sqrt(max(params[0].shape))
        for p, update in zip(params, orthogonalize(torch.stack(updates))):
            p.mul_(1 - group["lr"] * group["weight_decay"])
            update = update.mT if p.shape[0] > p.shape[1] else update
            p.add_(update, alpha=-group["lr"] * scale)


def make_optimizers(model, arguments):
    layers = [p for p in model.model.layers.parameters() if p.ndim == 2]
    taken = {id(p) for p in layers}
    rest = [p for p in model.parameters() if id(p) not in taken]
    groups = [
        {"params": [p for p in rest if p.ndim == 2], "weight_decay": arguments.weight_decay},
        {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
    ]
    return [
        torch.optim.AdamW(groups, lr=arguments.learning_rate, betas=(0.9, 0.95), eps=1e-10),
        Muon(layers, arguments.learning_rate, arguments.weight_decay),
    ]


def rate_factor(progress, decay):
    """Constant, then a cosine down to zero over the last `decay` of the run.

    The constant part does not depend on the run's length, so a longer or shorter run can go on
    from the state of another (--resume) and is still the run that its own command describes.
    """
    if progress < 1 - decay:
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - 1 + decay) / decay)))


class Trainer:
    """The training loop with its running average, its states on disk and its best model."""

    def __init__(self, arguments, tokenizer, texts, held_out):
        self.arguments = arguments
        self.tokenizer = tokenizer
        self.windows = Windows(tokenizer, texts, arguments.length, arguments.chat_share)
        self.held_out = held_out_windows(tokenizer, held_out, arguments.positions)
        self.model = make_model(arguments, tokenizer)
        self.average = {k: v.detach().clone() for k, v in self.model.named_parameters()}
        self.optimizers = make_optimizers(self.model, arguments)
        self.step = 0
        self.best = math.inf
        self.began = time.monotonic()

    def train(self):
        arguments = self.arguments
        recent = []
        while self._progress() < 1:
            recent.append(self._one_step())
            if self.step % arguments.evaluate_every == 0 or self._progress() >= 1:
                self._evaluate(sum(recent) / len(recent))
                recent = []
            if arguments.state and self.step % arguments.save_every == 0:
                self.save_state(arguments.state)

    def _progress(self):
        if self.arguments.minutes is None:
            return self.step / self.arguments.steps
        return (time.monotonic() - self.began) / (60 * self.arguments.minutes)

    def _one_step(self):
        arguments = self.arguments
        progress = self._progress()
        torch.manual_seed(arguments.seed * 1_000_003 + self.step)  # dropout, the same on resuming
        self.model.train()
        inputs, labels = self.windows.batch(arguments.seed, self.step, arguments.batch)
        logits = self.model(input_ids=inputs).logits
        loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED_LABEL)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        warm = min(1.0, (self.step + 1) / arguments.warmup_steps)
        factor = warm * rate_factor(progress, arguments.decay_share)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = arguments.learning_rate * factor
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        keep = min(arguments.average, self.step / (self.step + 10))
        with torch.no_grad():
            for name, value in self.model.named_parameters():
                self.average[name].lerp_(value, 1 - keep)
        return loss.item()

    def _swap_average(self):
        with torch.no_grad():
            for name, value in self.model.named_parameters():
                kept = value.clone()
                value.copy_(self.average[name])
                self.average[name].copy_(kept)

    def _evaluate(self, train_loss):
        """Writes whichever of the weights and their running average is the best so far."""
        plain = held_out_loss(self.model, self.held_out)
        self._swap_average()
        averaged = held_out_loss(self.model, self.held_out)
        if plain < averaged:
            self._swap_average()
        if min(plain, averaged) < self.best:
            self.best = min(plain, averaged)
            write_model(self.model, self.tokenizer, self.arguments.output)
        if plain >= averaged:
            self._swap_average()
        minutes = (time.monotonic() - self.began) / 60
        losses = f"train {train_loss:.4f}  held-out {plain:.4f}  averaged {averaged:.4f}"
        print(f"step {self.step}  {losses}  best {self.best:.4f}  {minutes:.1f} min", flush=True)

    def save_state(self, path):
        state = {
            "step": self.step,
            "best": self.best,
            "model": self.model.state_dict(),
            "average": self.average,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }
        partial = path.with_suffix(".partial")  # a run that is cut off keeps the state before
        torch.save(state, partial)
        partial.replace(path)

    def load_state(self, path):
        state = torch.load(path)
        self.step, self.best, self.average = state["step"], state["best"], state["average"]
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"]):
            optimizer.load_state_dict(saved)


def write_model(model, tokenizer, folder):
    """The Hugging Face folder: config, generation config, tokenizer and bfloat16 weights."""
    folder.mkdir(parents=True, exist_ok=True)
    full = model.config.to_dict()
    config = {"architectures": ["LlamaForCausalLM"]} | {name: full[name] for name in CONFIG_FIELDS}
    # The older spelling of these two, which older and newer readers both know.
    config |= {"rope_theta": ROPE_THETA, "torch_dtype": "bfloat16"}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    generation = {name: config[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    generation["eos_token_id"] = [tokenizer.token_to_id(EOS), tokenizer.token_to_id(END_OF_TURN)]
    generation |= {"do_sample": True, "temperature": 0.8, "top_p": 0.95}
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")
    write_tokenizer(tokenizer, folder, model.config.max_position_embeddings)
    tensors = {
        name: value.detach().to(torch.bfloat16).contiguous()
        for name, value in model.named_parameters()
    }
    partial = folder / "model.safetensors.partial"
    save_file(tensors, str(partial), metadata={"format": "pt"})
    partial.chmod(0o644)
    partial.replace(folder / "model.safetensors")
    size = sum(entry.stat().st_size for entry in folder.iterdir())
    if size > SIZE_LIMIT_BYTES:
        raise SystemExit(f"{folder} holds {size} bytes, more than {SIZE_LIMIT_BYTES}")


def report(arguments, tokenizer, held_out):
    """Measures what was written, as written (bfloat16 weights), on the held-out texts."""
    model = LlamaForCausalLM.from_pretrained(arguments.output, dtype=torch.bfloat16).float()
    print(f"{sum(p.numel() for p in model.parameters())} parameters")
    parts = [(path.name, [text]) for path, text in zip(arguments.text, held_out)]
    for name, texts in parts + [("all", held_out)]:
        windows = held_out_windows(tokenizer, texts, arguments.positions)
        tokens = sum(len(window) - 1 for window in windows)
        size = sum(len(text.encode()) for text in texts)
        loss = held_out_loss(model, windows)
        print(
            f"held-out {name}: {tokens} tokens, {size} bytes, loss {loss:.4f} per token, "
            f"perplexity {math.exp(loss):.2f}, {loss * tokens / size / math.log(2):.4f} bits/byte"
        )


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--text", type=Path, action="append", required=True, help="a UTF-8 text; repeatable")
    add("--output", type=Path, default=Path(__file__).resolve().parent.parent / "models" / "demo")
    add("--write-held-out", type=Path, metavar="FILE", help="write the held-out text and stop")
    add("--report", action="store_true", help="measure the model in --output and stop")
    add("--held-out-share", type=float, default=0.05, help="share of each text kept for measuring")
    add("--steps", type=int, default=800)
    add("--minutes", type=float, help="train this long instead of --steps (not repeatable)")
    add("--seed", type=int, default=1)
    add("--threads", type=int, default=2)
    add("--state", type=Path, help="keep a state here that --resume can go on from")
    add("--resume", type=Path, help="go on from this state")
    add("--vocabulary", type=int, default=4096)
    add("--hidden", type=int, default=192)
    add("--intermediate", type=int, default=512)
    add("--layers", type=int, default=6)
    add("--heads", type=int, default=6)
    add("--kv-heads", type=int, default=2)
    add("--head-dim", type=int, default=32)
    add("--positions", type=int, default=512, help="max_position_embeddings")
    add("--length", type=int, default=512, help="tokens of a training window")
    add("--batch", type=int, default=6, help="windows of a step")
    add("--chat-share", type=float, default=0.1, help="share of windows in the chat format")
    add("--learning-rate", type=float, default=4e-3)
    add("--weight-decay", type=float, default=0.2)
    add("--dropout", type=float, default=0.15)
    add("--average", type=float, default=0.99, help="weight that the running average keeps a step")
    add("--warmup-steps", type=int, default=50)
    add("--decay-share", type=float, default=0.35, help="last share of the run, rate going to zero")
    add("--evaluate-every", type=int, default=100)
    add("--save-every", type=int, default=100)
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    logging.disable_progress_bar()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    parts = [
        split_held_out(path.read_text(encoding="utf-8"), arguments.held_out_share)
        for path in arguments.text
    ]
    texts, held_out = [part[0] for part in parts], [part[1] for part in parts]
    if arguments.write_held_out:
        arguments.write_held_out.write_text("".join(held_out), encoding="utf-8")
        return
    if arguments.report:
        report(arguments, Tokenizer.from_file(str(arguments.output / "tokenizer.json")), held_out)
        return
    tokenizer = train_tokenizer(texts, arguments.vocabulary)
    trainer = Trainer(arguments, tokenizer, texts, held_out)
    if arguments.resume:
        trainer.load_state(arguments.resume)
    print(f"{sum(trainer.windows.weights)} training tokens", flush=True)
    trainer.train()
    report(arguments, tokenizer, held_out)


if __name__ == "__main__":
    main()
