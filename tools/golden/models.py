# SPDX-License-Identifier: Apache-2.0
"""Tiny random models in Hugging Face layout, with the logits that transformers computes for them.

Logits are computed in float32 with eager attention on the weights as the file holds them. Each model
is refused unless its logits move when any one tensor, or a feature named in its row, is taken away.
"""

import json
import zlib
from pathlib import Path

import safetensors.torch
import torch
import transformers

from .files import fresh_folder, write_json, write_tensors
from .float_vectors import E4M3, E5M2, decode_fp8, encode_fp8
from .model_kinds import KINDS, MORE_KINDS, Kind
from .quant_vectors import GRANULARITIES, blocks_of, matrix_of, vllm

EAGER = {"attn_implementation": "eager", "experts_implementation": "eager"}
GREEDY_STEPS = 20
LEAST_MARGIN = 2e-3  # of the largest logit, so that the greedy choice is no matter of rounding
LEAST_EFFECT = 1e-3
LOAD_TOLERANCE = 3e-6  # other addresses, other vector kernels
MOST_BYTES = 250_000
TABLES = ("embed_tokens", "lm_head")
NEVER_QUANTIZED = ("gate", "shared_expert_gate", "router", "embed_positions")


def logits_of(model, ids: list) -> torch.Tensor:
    """[V] per position: [T, V]."""
    with torch.no_grad():
        return model(torch.tensor([ids]), use_cache=False).logits[0].to(torch.float32)


def spread(name: str, parameter: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Values large enough that every tensor is felt in the logits."""
    noise = torch.randn(parameter.shape, generator=generator)
    if name.endswith("bias"):
        return 0.3 * noise
    if parameter.dim() == 1:
        return 1 + 0.3 * noise
    if any(table in name for table in TABLES):
        return 0.3 * noise
    if "embed_positions" in name:
        return noise
    wide = 1.6 if "q_proj" in name or "k_proj" in name else 1.0
    return wide * noise / parameter.shape[-1] ** 0.5


def build(kind: Kind, seed: int):
    """The model in float32, its weights exactly representable in the file's dtype."""
    config = getattr(transformers, kind.config_class)(**kind.config)
    model = transformers.AutoModelForCausalLM.from_config(config, **EAGER).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            parameter.copy_(spread(name, parameter, generator).to(getattr(torch, kind.dtype)))
        for name, buffer in sorted(model.named_buffers()):
            if name.endswith("e_score_correction_bias"):
                buffer.copy_(0.1 * torch.randn(buffer.shape, generator=generator))
    return model


def to_v4(config: dict, kind: Kind) -> dict:
    """The same configuration in the words of transformers 4 and of files older still."""
    new = ("rope_parameters", "layer_types", "mlp_layer_types", "dtype")
    old = {key: value for key, value in config.items() if key not in new}
    parameters = dict(config["rope_parameters"])
    old["rope_theta"] = parameters.pop("rope_theta")
    if parameters["rope_type"] == "linear":  # the oldest spelling
        parameters["type"] = parameters.pop("rope_type")
    old["rope_scaling"] = None if parameters.get("rope_type") == "default" else parameters
    old["torch_dtype"] = config["dtype"]
    if (old.get("head_dim") or 0) * old["num_attention_heads"] in (0, old["hidden_size"]):
        old.pop("head_dim", None)  # old files leave it to be derived
    old["transformers_version"] = "4.44.0"
    return dict(sorted(old.items()))


def save(model, kind: Kind, folder: Path) -> None:
    stored = transformers.AutoModelForCausalLM.from_config(model.config, dtype=getattr(torch, kind.dtype))
    stored.load_state_dict(model.state_dict())
    stored.save_pretrained(folder, max_shard_size=kind.shard_size, save_original_format=not kind.experts)
    (folder / "generation_config.json").unlink(missing_ok=True)
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    if kind.dialect == "v4":
        config = to_v4(config, kind)
    path.write_text(json.dumps(config | kind.file_fields, indent=2) + "\n", encoding="utf-8")
    for file in folder.iterdir():
        file.chmod(0o644)


def transpose_experts(folder: Path) -> None:
    """Turns the matrices of fused experts round, as some models of transformers 4 have them."""
    path = folder / "model.safetensors"
    tensors = safetensors.torch.load_file(path)
    turned = {name: t.transpose(1, 2).contiguous() if t.dim() == 3 else t for name, t in tensors.items()}
    safetensors.torch.save_file(turned, path, metadata={"format": "pt"})
    path.chmod(0o644)


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a - b).abs().max() / b.abs().max()).item()


def check_effects(model, kind: Kind, ids: list, seed: int) -> float:
    """The smallest effect of taking one tensor or feature away; refuses one that nobody would miss."""
    whole, effects = logits_of(model, ids), {}
    for name, parameter in model.named_parameters():
        if kind.silent and name.endswith(kind.silent):
            continue
        kept = parameter.data.clone()
        if name.endswith("bias"):
            parameter.data.zero_()
        elif parameter.dim() == 1:
            parameter.data.fill_(1)
        else:
            parameter.data.copy_(kept.flip(-1))
        effects[name] = relative(logits_of(model, ids), whole)
        parameter.data.copy_(kept)
    for feature, changed in kind.without.items():
        other = build(Kind(kind.name, kind.config_class, kind.config | changed, dtype=kind.dtype), seed)
        effects[feature] = relative(logits_of(other, ids), whole)
    weakest = min(effects, key=effects.get)
    if effects[weakest] < LEAST_EFFECT:
        raise AssertionError(f"{kind.name}: taking away {weakest} moves the logits by {effects[weakest]:.1e} only")
    return effects[weakest]


def greedy(model, prompt: list) -> tuple[list, float]:
    """The continuation and its smallest margin between first and second, relative to the largest logit."""
    ids, margin = list(prompt), float("inf")
    for _ in range(GREEDY_STEPS):
        last = logits_of(model, ids)[-1]
        first, second = last.topk(2).values.tolist()
        margin = min(margin, (first - second) / last.abs().max().item())
        ids.append(last.argmax().item())
    return ids[len(prompt):], margin


def dequantized(weight: torch.Tensor, variant: str, dtype: torch.dtype, members: int = 1) -> torch.Tensor:
    """A matrix [N, K] through FP8 and back, profile vllm; the last two dimensions of a stack of matrices, each
    of which may be several matrices one below the other."""
    if members > 1:
        parts = [dequantized(part, variant, dtype) for part in weight.chunk(members, dim=-2)]
        return torch.cat(parts, dim=-2)
    if weight.dim() == 3:
        return torch.stack([dequantized(matrix, variant, dtype) for matrix in weight])
    fmt = E5M2 if "e5m2" in variant else E4M3
    if variant.startswith("raw_cast"):
        return decode_fp8(encode_fp8(weight, fmt), fmt)
    g = next(g for g in GRANULARITIES if g.name in variant)
    codes, scales = vllm(weight.to(dtype), g, fmt)
    blocks = blocks_of(decode_fp8(codes, fmt), g)
    return matrix_of(blocks * scales[:, :, None, None], weight.shape)


def variant_logits(model, kind: Kind, variant: str, sequences: list) -> list:
    """Logits with every linear weight dequantized; with `_tables` also the embedding and the head."""
    kept = {name: parameter.data.clone() for name, parameter in model.named_parameters()}
    for name, parameter in model.named_parameters():
        parts = name.split(".")
        table = any(part in TABLES for part in parts)
        wanted = variant.endswith("_tables") if table else not any(part in NEVER_QUANTIZED for part in parts)
        if parameter.dim() >= 2 and wanted:
            members = 2 if "gate_up_proj" in name else 1
            parameter.data.copy_(dequantized(parameter.data, variant, getattr(torch, kind.dtype), members))
    logits = [logits_of(model, ids) for ids in sequences]
    for name, parameter in model.named_parameters():
        parameter.data.copy_(kept[name])
    return logits


def find_seed(kind: Kind) -> tuple:
    """The first seed whose greedy continuation is clear and not a single token for ever."""
    for attempt in range(200):
        seed = zlib.crc32(f"{kind.name}/{attempt}".encode())
        model = build(kind, seed)
        generator = torch.Generator().manual_seed(seed)
        sequences = [torch.randint(3, kind.config["vocab_size"], (n,), generator=generator).tolist()
                     for n in kind.lengths]
        ids, margin = greedy(model, sequences[1])
        if margin > LEAST_MARGIN and len(set(ids)) > 8:
            return seed, model, sequences, ids, margin
    raise AssertionError(f"{kind.name}: no seed gives a clear greedy continuation")


def write_model(kind: Kind, root: Path) -> str:
    folder = fresh_folder(root / kind.name)
    seed, model, sequences, continuation, margin = find_seed(kind)
    effect = check_effects(model, kind, sequences[-1], seed)
    save(model, kind, folder)

    loaded = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **EAGER)
    logits = [logits_of(loaded.eval(), ids) for ids in sequences]
    error = max(relative(logits_of(model, ids), own) for ids, own in zip(sequences, logits))
    if error > LOAD_TOLERANCE:
        raise AssertionError(f"{kind.name}: the folder loads as another model ({error:.1e}) than the one saved")

    tensors = {f"logits.{i}": own for i, own in enumerate(logits)}
    for i, ids in enumerate(sequences):
        tensors[f"ids.{i}"] = torch.tensor(ids, dtype=torch.int32)
    for variant in kind.variants:
        quantized = variant_logits(loaded, kind, variant, sequences)
        tensors |= {f"{variant}.logits.{i}": own for i, own in enumerate(quantized)}
    write_tensors(folder / "golden.safetensors", tensors)
    write_json(folder / "golden.json", {
        "model_type": loaded.config.model_type, "dialect": kind.dialect, "dtype": kind.dtype,
        "ids": sequences, "greedy": {"prompt": sequences[1], "ids": continuation, "least_margin": round(margin, 5)},
        "variants": list(kind.variants)})
    if kind.experts == "transposed":
        transpose_experts(folder)
    size = sum(file.stat().st_size for file in folder.iterdir())
    if size > MOST_BYTES:
        raise AssertionError(f"{kind.name}: {size} bytes, more than {MOST_BYTES}")
    return f"  {kind.name}: {size} bytes, least effect {effect:.4f}, least margin {margin:.4f}"


def write_models(root: Path, family: str) -> str:
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    folder = fresh_folder(root / family)
    lines = []
    for kind in KINDS if family == "models" else MORE_KINDS:
        lines.append(write_model(kind, folder))
        print(lines[-1], flush=True)
    return f"{len(lines)} models"
