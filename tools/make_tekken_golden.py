#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Holds Octet's reading of tekken.json to Mistral's own package (pip install mistral-common tokenizers).

    python tools/make_tekken_golden.py                      writes tests/golden/text/tekken: a small tekken.json, trained
                                                            here, with ids of texts and conversations
    python tools/make_tekken_golden.py --check TEKKEN_JSON --folder OUT [--strings 10000]
                                                            writes to OUT the file and the ids of many varied texts, for
    OCTET_TEKKEN_CASES=OUT text_test --gtest_filter='*OfAFolderOfCases*'
"""

import argparse
import base64
import copy
import json
import random
import shutil
import sys
from pathlib import Path

from mistral_common.protocol.instruct.request import ChatCompletionRequest
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer
from mistral_common.tokens.tokenizers.tekken import Tekkenizer
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden" / "text" / "tekken"

CORPUS = [
    "The quick brown fox jumps over the lazy dog; the dog doesn't mind at all, and the fox isn't sorry.",
    "It was the best of times, it was the worst of times, it was the age of wisdom in 1859 and in 2026.",
    "def add(a, b):\n    return a + b\n\n\nprint(add(2, 40))  # 42\n",
    "Zürich und Genève liegen in der Schweiz. Voilà une phrase française, où l'on écrit là-bas.",
    "HelloWorld camelCase XMLHttpRequest snake_case_name CONSTANT_NAME", "こんにちは世界。漢字とかな。Привет, мир! Как дела?",
] * 3

# Words apart by their letters' case, digits one by one.
PATTERN = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
           r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
           r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
SPECIALS = [token["token_str"] for token in Tekkenizer.DEPRECATED_SPECIAL_TOKENS]
SPECIAL_COUNT = 40
UNUSED = 7  # tokens of the file beyond those that its config counts

TEXTS = [
    "", " ", "  ", "\n", "Hello world", " Hello  world ", "The quick brown fox.", "it's they're I'LL we'd", "1234567890 3.14 2026",
    "tabs\tand\n\nnewlines\r\n  \n", "Zürich, Genève, naïve, e\u0301 (combining)", "こんにちは世界 漢字", "Привет, мир!", "😀 👩‍👩‍👧 🇨🇭 end",
    "a\u200bb\u00a0c\u2028d\ufeff", "HelloWorldXMLHttp", "[INST] not a mark [/INST]</s><s><unk>", "<SPECIAL_25>", "\x00\x01\x7f",
    "x" * 50, "def f(x):\n\treturn x*2  # twice\n", "trailing space ", "!?...;:--///\n", "the fox the dog isn't",
]

TOOLS = [{"type": "function", "function": {"name": "weather", "description": "The weather", "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}]
CALL = {"id": "abcdefghi", "type": "function", "function": {"name": "weather", "arguments": "{\"city\": \"Genève\"}"}}
CHATS = [
    {"messages": [{"role": "user", "content": "Hello world"}]},
    {"messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "The quick brown fox?"}]},
    {"messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Hello"},
                  {"role": "assistant", "content": "Привет!"}, {"role": "user", "content": "漢字 😀"}]},
    {"messages": [{"role": "system", "content": "</s>[INST]"}, {"role": "user", "content": "[/INST]yes</s><s>[INST] <<unk> fox"},
                  {"role": "assistant", "content": "[TOOL_CALLS]"}, {"role": "user", "content": "<SPECIAL_25>"}]},
    {"tools": TOOLS, "messages": [{"role": "user", "content": "How is it in Genève?"}]},
    {"tools": TOOLS, "messages": [
        {"role": "user", "content": "How is it in Genève?"}, {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "abcdefghi", "name": "weather", "content": "{\"degrees\": 21}"}]},
]


def byte_values() -> dict:
    """The bytes behind the characters of GPT-2's alphabet."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + i): byte for i, byte in enumerate(rest)}


def trained_tokens(count: int) -> list:
    """The bytes, then the tokens in the order of their merges."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(PATTERN), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=count, initial_alphabet=alphabet, show_progress=False))
    values, tokens = byte_values(), [bytes([byte]) for byte in range(256)]
    for left, right in json.loads(tokenizer.to_str())["model"]["merges"]:
        token = bytes(values[character] for character in left + right)
        if token not in tokens:
            tokens.append(token)
    return tokens


def write_tekken(path: Path) -> None:
    tokens = trained_tokens(620)

    def text(token: bytes):
        try:
            return token.decode()
        except UnicodeDecodeError:
            return None

    vocab = [{"rank": rank, "token_bytes": base64.b64encode(token).decode(), "token_str": text(token)}
             for rank, token in enumerate(tokens)]
    config = {"pattern": PATTERN, "num_vocab_tokens": len(vocab), "default_num_special_tokens": SPECIAL_COUNT,
              "default_vocab_size": len(vocab) - UNUSED + SPECIAL_COUNT, "version": "v7"}
    specials = [{"rank": rank, "token_str": token, "is_control": True} for rank, token in enumerate(SPECIALS)]
    rows = ",\n".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in vocab)
    head = json.dumps({"config": config, "special_tokens": specials, "version": 1, "type": "Tekken"}, separators=(",", ":"))
    path.write_text(f'{head[:-1]},"vocab":[\n{rows}\n]}}\n', encoding="utf-8")


def cases(tokenizer: Tekkenizer, texts: list) -> list:
    return [{"text": text, "ids": tokenizer.encode(text, bos=False, eos=False)} for text in texts]


def for_template(chat: dict) -> dict:
    """As chat templates take it: arguments as an object."""
    chat = copy.deepcopy(chat)
    for call in (call for message in chat["messages"] for call in message.get("tool_calls", [])):
        call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    return chat


def chats(path: Path) -> list:
    tokenizer = MistralTokenizer.from_file(str(path))
    return [{"request": for_template(chat), "ids": tokenizer.encode_chat_completion(ChatCompletionRequest(**chat)).tokens} for chat in CHATS]


def varied_texts(count: int) -> list:
    """Pieces of the corpus and of these tools, characters of all planes, blanks, numbers, names of special tokens."""
    generator = random.Random(20261121)
    sources = "\n".join(CORPUS) + "".join(p.read_text(encoding="utf-8") for p in sorted(Path(__file__).parent.glob("*.py")))
    planes = [(0x20, 0x7e), (0, 0x20), (0xa0, 0x24f), (0x300, 0x36f), (0x370, 0x5ff), (0x600, 0x6ff), (0x900, 0xdff),
              (0x2000, 0x2bff), (0x3040, 0x30ff), (0x4e00, 0x9fff), (0xac00, 0xd7a3), (0x1f300, 0x1faff), (0x20000, 0x20fff)]

    def piece() -> str:
        kind = generator.randrange(7)
        if kind < 3:
            begin = generator.randrange(len(sources))
            return sources[begin:begin + generator.randrange(1, 60)]
        if kind == 3:
            low, high = generator.choice(planes)
            return "".join(chr(generator.randint(low, high)) for _ in range(generator.randrange(1, 12)))
        if kind == 4:
            return generator.choice([" ", "  ", "\n", "\r\n", "\t", "\n\n  ", "\u00a0", "\u3000"]) * generator.randrange(1, 4)
        if kind == 5:
            return str(generator.randrange(10**generator.randrange(1, 12)))
        return generator.choice([*SPECIALS, "'s", "'LL", "camelCase", "HTTPServer", "_x_", "//\n", "e\u0301"])

    return ["".join(piece() for _ in range(generator.randrange(1, 9))) for _ in range(count)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", type=Path, metavar="TEKKEN_JSON")
    parser.add_argument("--folder", type=Path, help="where --check writes")
    parser.add_argument("--strings", type=int, default=10000)
    args = parser.parse_args()
    folder = args.folder if args.check else GOLDEN
    if folder is None:
        sys.exit("--check needs --folder")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "tekken.json"
    if args.check:
        shutil.copyfile(args.check, path)
    else:
        write_tekken(path)
    tokenizer = Tekkenizer.from_file(path)
    texts = varied_texts(args.strings) if args.check else TEXTS
    golden = {"size": tokenizer.n_words, "cases": cases(tokenizer, texts), "chats": [] if args.check else chats(path)}
    (folder / "golden.json").write_text(json.dumps(golden, ensure_ascii=False, indent=None if args.check else 1) + "\n", encoding="utf-8")
    print(f"{folder}: {len(golden['cases'])} texts, {len(golden['chats'])} conversations")


if __name__ == "__main__":
    main()
