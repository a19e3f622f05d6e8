# SPDX-License-Identifier: Apache-2.0
"""Writes a bfloat16 checkpoint of Hugging Face layout as llama.cpp's files: GGUF in BF16, and Q8_0 quantized from it.

    PEERS/venv/bin/python bench/compare/llama_convert.py FOLDER OUT.gguf [OUT_Q8_0.gguf]

Run by compare.py with the Python of install_peers.sh. For dense models of the Llama family; tensors are copied one at a
time; the vocabulary has its size alone, since peers are given token ids.
"""

import ctypes
import json
import math
import os
import pathlib
import struct
import sys

import gguf
import numpy as np

LAYER_NAMES = {
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}
OUTER_NAMES = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def read_checkpoint(folder):
    """Name -> bits of each tensor, uint16 [rows, columns], mapped from the files."""
    tensors = {}
    for path in sorted(folder.glob("model*.safetensors")):
        with path.open("rb") as file:
            length, = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            if entry["dtype"] != "BF16":
                raise ValueError(f"{path}: tensor {name} is {entry['dtype']}; only BF16 is converted")
            tensors[name] = np.memmap(path, np.uint16, "r", 8 + length + entry["data_offsets"][0], tuple(entry["shape"]))
    if not tensors:
        raise ValueError(f"{folder}: no model*.safetensors")
    return tensors


def gguf_name(name):
    module, _, kind = name.rpartition(".")
    if kind == "weight" and module in OUTER_NAMES:
        return OUTER_NAMES[module] + ".weight"
    parts = module.split(".", 3)
    if kind != "weight" or len(parts) != 4 or parts[:2] != ["model", "layers"] or parts[3] not in LAYER_NAMES:
        raise ValueError(f"tensor {name}: no name for it in a GGUF of the Llama family")
    return f"blk.{parts[2]}.{LAYER_NAMES[parts[3]]}.weight"


def interleave(matrix, heads):
    """Rows for llama.cpp's rotation, which turns neighbours, where Hugging Face turns the halves of a head."""
    rows, columns = matrix.shape
    return matrix.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def frequency_divisors(config, head_dim):
    """By what the frequencies of rope scaling 'llama3' are divided, float32 [head_dim / 2]; None without scaling."""
    scaling = config.get("rope_scaling")
    if not scaling:
        return None
    if scaling.get("rope_type") != "llama3":
        raise ValueError(f"rope_scaling {scaling.get('rope_type')!r}; only 'llama3' is converted")
    factor, low, high = (float(scaling[key]) for key in ("factor", "low_freq_factor", "high_freq_factor"))
    context = scaling["original_max_position_embeddings"]
    divisors = []
    for i in range(head_dim // 2):
        turns = context * config["rope_theta"] ** (-2 * i / head_dim) / (2 * math.pi)
        kept = min(1.0, max(0.0, (turns - low) / (high - low)))
        divisors.append(1 / (kept + (1 - kept) / factor))
    return np.array(divisors, np.float32)


def value_of(name, bits, config):
    """The tensor as llama.cpp holds it: norms in float32, matrices as the bits of BF16."""
    if bits.ndim == 1:
        return (bits.astype(np.uint32) << 16).view(np.float32)
    if name.endswith("attn_q.weight"):
        return interleave(bits, config["num_attention_heads"])
    if name.endswith("attn_k.weight"):
        return interleave(bits, config["num_key_value_heads"])
    return bits


def describe(writer, config, head_dim):
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("none")


def write_bf16(folder, out):
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if config["model_type"] not in ("llama", "mistral"):
        raise ValueError(f"{folder}: model_type {config['model_type']!r}; llama and mistral are converted")
    head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    tensors = {gguf_name(name): bits for name, bits in read_checkpoint(folder).items()}
    writer = gguf.GGUFWriter(out, "llama")
    describe(writer, config, head_dim)
    divisors = frequency_divisors(config, head_dim)
    if divisors is not None:
        writer.add_tensor_info("rope_freqs.weight", divisors.shape, divisors.dtype, divisors.nbytes)
    for name, bits in tensors.items():
        norm = bits.ndim == 1
        writer.add_tensor_info(name, bits.shape, bits.dtype, bits.nbytes * (2 if norm else 1),
                               gguf.GGMLQuantizationType.F32 if norm else gguf.GGMLQuantizationType.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    if divisors is not None:
        writer.write_tensor_data(divisors)
    for name, bits in tensors.items():
        writer.write_tensor_data(value_of(name, bits, config))
    writer.close()


def write_q8_0(bf16, out):
    import llama_cpp.llama_cpp as low

    silent = low.llama_log_callback(lambda level, text, data: None)
    low.llama_log_set(silent, None)
    low.llama_backend_init()
    parameters = low.llama_model_quantize_default_params()
    parameters.ftype = low.LLAMA_FTYPE_MOSTLY_Q8_0
    if low.llama_model_quantize(os.fsencode(bf16), os.fsencode(out), ctypes.byref(parameters)) != 0:
        raise ValueError(f"{bf16}: llama.cpp did not quantize it")


def replace_whole(out, write):
    """Never leaves half a file behind under the name that is looked for."""
    part = out.with_suffix(".part")
    try:
        write(part)
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)


def main():
    if len(sys.argv) not in (3, 4):
        sys.exit(f"usage: {sys.argv[0]} FOLDER OUT.gguf [OUT_Q8_0.gguf]")
    folder, bf16, *rest = (pathlib.Path(argument) for argument in sys.argv[1:])
    try:
        replace_whole(bf16, lambda part: write_bf16(folder, part))
        for q8_0 in rest:
            replace_whole(q8_0, lambda part: write_q8_0(bf16, part))
    except (OSError, ValueError) as error:
        sys.exit(f"llama_convert.py: {error}")


if __name__ == "__main__":
    main()
