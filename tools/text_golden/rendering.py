# SPDX-License-Identifier: Apache-2.0
"""Renders every template with every conversation through transformers."""
import contextlib
import json
import logging

import jinja2
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from . import probes
from .conversations import conversations

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "image_token": "<image>"}


def tokenizer():
    words = {token: index for index, token in enumerate(SPECIAL.values())}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel(words, unk_token="<unk>")), **SPECIAL)


def outcome(model, template, request):
    """{"text"}, or {"error"} with the template's own words when it raised, else null."""
    request = json.loads(json.dumps(request))
    messages = request.pop("messages")
    try:
        return {"text": model.apply_chat_template(messages, chat_template=template, tokenize=False, **request)}
    except jinja2.TemplateError as error:
        said = type(error) is jinja2.TemplateError
        return {"error": str(error) if said else None}
    except Exception:
        return {"error": None}


def split(lines):
    """Each expression of a line `{{ a }}|{{ b }}` on its own, so that one failure does not hide the others."""
    for line in lines:
        if line.startswith("{{") and line.endswith("}}") and "{%" not in line and "\n" not in line and "{#" not in line:
            yield from ("{{" + part + "}}" for part in line[2:-2].split("}}|{{"))
        else:
            yield line


def make(folder):
    logging.disable(logging.WARNING)
    model = tokenizer()
    requests = conversations()
    rendered = {}
    for path in sorted(folder.glob("*.jinja")):
        # Not read as text: Python would change the line ends.
        template = path.read_bytes().decode("utf-8")
        rendered[path.name] = {name: outcome(model, template, request) for name, request in requests.items()}
    probe = {"messages": probes.MESSAGES, **probes.VARIABLES}
    return {
        "special_tokens": SPECIAL,
        # As text: numbers must reach the reader as they are written.
        "requests": {name: json.dumps(request, ensure_ascii=False) for name, request in requests.items()},
        "rendered": rendered,
        "probe_request": json.dumps(probe, ensure_ascii=False),
        "probes": [{"template": text, **outcome(model, text, probe)} for text in split(probes.TEMPLATES)],
    }
