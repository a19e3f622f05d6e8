# SPDX-License-Identifier: Apache-2.0
"""Trains small tokenizers of each family and writes what transformers makes of texts with them."""
import json
import shutil

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

CORPUS = [
    "The quick brown fox jumps over the lazy dog; the dog doesn't mind at all, and the fox isn't sorry.",
    "It was the best of times, it was the worst of times, it was the age of wisdom in 1859 and in 2026.",
    "def add(a, b):\n    return a + b\n\n\nprint(add(2, 40))  # 42\n",
    "Zürich und Genève liegen in der Schweiz. Voilà une phrase française, où l'on écrit là-bas.",
    "こんにちは世界。漢字とかな。Привет, мир! Как дела?",
] * 3

TEXTS = [
    "", " ", "  ", "\n", "Hello world", " Hello  world ", "The quick brown fox.", "it's they're I'LL we'd", "1234567890 3.14 2026",
    "tabs\tand\n\nnewlines\r\n  \n", "Zürich, Genève, naïve, e\u0301 (combining), ﬁ ligature, Å", "こんにちは世界 漢字", "Привет, мир!",
    "😀 👩‍👩‍👧 🇨🇭 end", "a\u200bb\u00a0c\u2028d\ufeff", "<s>in</s> text <|user|>hi<|end|> <unk>", "<s> <s><|end|>  x", "x" * 50, "def f(x):\n\treturn x*2  # twice\n",
    "\x00\x01\x7f", "� replacement", "▁already▁marked", "trailing space ", "ＦＵＬＬ width", "a  b   c    d", "!?...;:--", "<|end", "日本語<|end|>日本語",
]

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
SPECIALS = ["<unk>", "<s>", "</s>", "<|user|>", "<|end|>"]


def special(text, **flags):
    return AddedToken(text, special=True, normalized=False, **flags)


def byte_level(pattern, normalizer=None, template=None, size=420):
    tokenizer = Tokenizer(models.BPE(ignore_merges=pattern == LLAMA3))
    if normalizer:
        tokenizer.normalizer = normalizer
    if pattern == GPT2:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_special_tokens([special(text) for text in SPECIALS])
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    if template:
        tokenizer.post_processor = processors.Sequence([tokenizer.post_processor, surround(tokenizer, template)])
    return tokenizer


def surround(tokenizer, template):
    ids = [(text, tokenizer.token_to_id(text)) for text in ("<s>", "</s>") if text in template]
    return processors.TemplateProcessing(single=template, special_tokens=ids)


def sentencepiece(metaspace):
    alphabet = [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    trainer = trainers.BpeTrainer(vocab_size=460, special_tokens=SPECIALS[:3] + alphabet, limit_alphabet=80, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    # The byte tokens are ordinary tokens of the model.
    data = json.loads(tokenizer.to_str())
    data["added_tokens"] = [token for token in data["added_tokens"] if token["content"] in SPECIALS]
    tokenizer = Tokenizer.from_str(json.dumps(data))
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    if metaspace:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    else:
        tokenizer.pre_tokenizer = None
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(steps)
    tokenizer.add_special_tokens([special("<|user|>"), special("<|end|>", rstrip=True)])
    tokenizer.post_processor = surround(tokenizer, "<s> $A")
    return tokenizer


def unigram():
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=300, special_tokens=SPECIALS, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = surround(tokenizer, "$A </s>")
    return tokenizer


def wordpiece():
    tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=300, special_tokens=SPECIALS, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def families():
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    objects = {key: {"content": text, "lstrip": False, "rstrip": False, "normalized": False, "single_word": False,
                     "special": True, "__type": "AddedToken"} for key, text in names.items()}
    return {
        "gpt2": (byte_level(GPT2), {**names, "bos_token": None}),
        "gpt2_bos": (byte_level(GPT2), {**objects, "add_bos_token": True}),
        "llama3": (byte_level(LLAMA3, template="<s> $A"), names),
        "llama3_no_bos": (byte_level(LLAMA3, template="<s> $A"), {**names, "add_bos_token": False, "add_eos_token": True}),
        "qwen": (byte_level(QWEN, normalizers.NFC()), {**names, "add_bos_token": False, "extra_special_tokens": ["<|more|>"]}),
        "sentencepiece": (sentencepiece(False), {**names, "add_bos_token": True}),
        "metaspace": (sentencepiece(True), names),
        "unigram": (unigram(), names),
        "wordpiece": (wordpiece(), names),
    }


# OPT folders as published (no tokenizer.json): the ids of the special tokens are the first of vocab.json.
OPT_SPECIALS = ["<s>", "<pad>", "</s>", "<unk>"]
OPT_NAMES = {"bos_token": "</s>", "eos_token": "</s>", "unk_token": "</s>", "pad_token": "<pad>"}


def opt_configs():
    objects = {key: {"content": text, "single_word": False, "lstrip": False, "rstrip": False, "normalized": True,
                     "__type": "AddedToken"} for key, text in OPT_NAMES.items()}
    named = {"tokenizer_class": "GPT2Tokenizer"}
    return {
        "opt": {"tokenizer_config.json": {"errors": "replace", **objects, "add_prefix_space": False, "add_bos_token": True, **named}},
        "opt_no_bos": {"tokenizer_config.json": {**OPT_NAMES, "add_bos_token": False, **named}},
        "opt_silent": {"tokenizer_config.json": {**OPT_NAMES, **named}},
        "opt_map": {"special_tokens_map.json": OPT_NAMES},
    }


def opt_vocabulary():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=330, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                                  special_tokens=OPT_SPECIALS, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    merges = "\n".join(["#version: 0.2", *(" ".join(pair) for pair in model["merges"])])
    return {"vocab.json": shrink(model["vocab"]), "merges.txt": merges + "\n",
            "config.json": shrink({"architectures": ["OPTForCausalLM"], "model_type": "opt"})}


def shrink(data):
    """One line per entry would be larger than the file needs to be."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")) + "\n"


def case(model, plain, text):
    ids = model.encode(text)
    return {
        "text": text,
        "ids": ids,
        "bare_ids": model.encode(text, add_special_tokens=False),
        "plain_ids": plain.encode(text, add_special_tokens=False),
        "decoded": model.decode(ids, skip_special_tokens=True),
        "decoded_all": model.decode(ids, skip_special_tokens=False),
    }


def golden(model, plain, texts):
    return {
        "size": max(model.get_vocab().values()) + 1,
        "bos": model.bos_token_id,
        "eos": model.eos_token_id,
        "cases": [case(model, plain, text) for text in texts],
    }


def make(folder, write):
    for name, (tokenizer, config) in families().items():
        target = folder / name
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        (target / "tokenizer.json").write_text(shrink(json.loads(tokenizer.to_str())), encoding="utf-8")
        config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **config}
        (target / "tokenizer_config.json").write_text(shrink(config), encoding="utf-8")
        model = PreTrainedTokenizerFast.from_pretrained(target)
        plain = PreTrainedTokenizerFast.from_pretrained(target, split_special_tokens=True)
        write(f"tokens/{name}.json", golden(model, plain, TEXTS))


    for name, configs in opt_configs().items():
        target = folder / name
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for file, text in opt_vocabulary().items():
            (target / file).write_text(text, encoding="utf-8")
        for file, config in configs.items():
            (target / file).write_text(shrink(config), encoding="utf-8")
        model = AutoTokenizer.from_pretrained(target)
        plain = AutoTokenizer.from_pretrained(target, split_special_tokens=True)
        write(f"tokens/{name}.json", golden(model, plain, TEXTS))


CHAT_TEMPLATE = ("{% for m in messages %}{{ '<|user|>' if m.role == 'user' else '<s>' }}{{ m.content }}{{ eos_token }}{% endfor %}"
                 "{% if add_generation_prompt %}<|end|>{% endif %}")
CHATS = [
    [{"role": "user", "content": "Hello world"}],
    [{"role": "user", "content": "<|end|>hi</s><s> <unk>x"}, {"role": "assistant", "content": "<|user|>"}],
    [{"role": "system", "content": "<|en d|> <<s>>"}, {"role": "user", "content": "</s>"}],
]


def make_chats(folder, write):
    """Conversations whose messages spell special tokens: a template's text is encoded as a whole."""
    families = {}
    for name in ("gpt2_bos", "llama3", "qwen", "metaspace"):
        model = PreTrainedTokenizerFast.from_pretrained(folder / name)
        families[name] = [{"request": {"messages": chat, "add_generation_prompt": True},
                           "ids": model.apply_chat_template(chat, chat_template=CHAT_TEMPLATE, add_generation_prompt=True,
                                                            tokenize=True, return_dict=False)} for chat in CHATS]
    write("chats.json", {"template": CHAT_TEMPLATE, "families": families})


def make_shared(folder, write):
    """A real tokenizer that lies beside the repository."""
    model = AutoTokenizer.from_pretrained(folder)
    plain = AutoTokenizer.from_pretrained(folder, split_special_tokens=True)
    write(f"tokens/{folder.name}.json", golden(model, plain, TEXTS))
