# SPDX-License-Identifier: Apache-2.0
"""Which tensors a checkpoint holds: configurations of known models, and tensor names and shapes of any such config.

Used by make_random_checkpoint.py; standard library only.
"""

MODEL_TYPES = ("llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen2_moe", "qwen3_moe", "glm4_moe_lite", "deepseek_v2",
               "deepseek_v3", "opt")
LATENT = ("glm4_moe_lite", "deepseek_v2", "deepseek_v3")
COMMON = {"hidden_act": "silu", "attention_dropout": 0.0, "initializer_range": 0.02, "use_cache": True,
          "torch_dtype": "bfloat16", "transformers_version": "4.57.0"}


def sizes(hidden: int, layers: int, heads: int, kv_heads: int, ffn: int, vocab: int) -> dict:
    return {"hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads,
            "num_key_value_heads": kv_heads, "intermediate_size": ffn, "vocab_size": vocab}


def llama(eos, factor: float, **more) -> dict:
    scaling = {"factor": factor, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": 8192, "rope_type": "llama3"}
    return COMMON | {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "attention_bias": False,
                     "mlp_bias": False, "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "rope_scaling": scaling,
                     "max_position_embeddings": 131072, "bos_token_id": 128000, "eos_token_id": eos,
                     "tie_word_embeddings": False} | more


def mistral(**more) -> dict:
    return COMMON | {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "rms_norm_eps": 1e-5,
                     "head_dim": 128, "sliding_window": None, "bos_token_id": 1, "eos_token_id": 2,
                     "tie_word_embeddings": False} | more


def qwen(kind: str, **more) -> dict:
    classes = {"qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM", "qwen2_moe": "Qwen2MoeForCausalLM",
               "qwen3_moe": "Qwen3MoeForCausalLM"}
    return COMMON | {"architectures": [classes[kind]], "model_type": kind, "rms_norm_eps": 1e-6,
                     "rope_theta": 1000000.0, "bos_token_id": 151643, "eos_token_id": 151643,
                     "use_sliding_window": False, "sliding_window": None, "tie_word_embeddings": False} | more


def glm_lite(**more) -> dict:
    return COMMON | {"architectures": ["Glm4MoeLiteForCausalLM"], "model_type": "glm4_moe_lite", "rms_norm_eps": 1e-5,
                     "rope_theta": 1000000.0, "rope_scaling": None, "partial_rotary_factor": 1.0,
                     "max_position_embeddings": 202752, "attention_bias": False, "q_lora_rank": 768,
                     "kv_lora_rank": 512, "qk_nope_head_dim": 192, "qk_rope_head_dim": 64, "v_head_dim": 256,
                     "moe_intermediate_size": 1536, "n_shared_experts": 1, "num_experts_per_tok": 4,
                     "norm_topk_prob": True, "routed_scaling_factor": 1.8, "n_group": 1, "topk_group": 1,
                     "topk_method": "noaux_tc", "first_k_dense_replace": 1, "num_nextn_predict_layers": 0,
                     "eos_token_id": [154820, 154827, 154829], "pad_token_id": 154820,
                     "tie_word_embeddings": False} | more


def deepseek(version: int, **more) -> dict:
    return COMMON | {"architectures": [f"DeepseekV{version}ForCausalLM"], "model_type": f"deepseek_v{version}",
                     "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "max_position_embeddings": 163840,
                     "attention_bias": False, "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64,
                     "v_head_dim": 128, "moe_layer_freq": 1, "num_nextn_predict_layers": 0, "bos_token_id": 0,
                     "eos_token_id": 1, "tie_word_embeddings": False,
                     "rope_scaling": {"type": "yarn", "factor": 40, "original_max_position_embeddings": 4096,
                                      "beta_fast": 32, "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 1.0}} | more


def opt(hidden: int, layers: int, heads: int, **more) -> dict:
    return {"architectures": ["OPTForCausalLM"], "model_type": "opt", "hidden_size": hidden, "num_hidden_layers": layers,
            "num_attention_heads": heads, "ffn_dim": 4 * hidden, "vocab_size": 50272, "max_position_embeddings": 2048,
            "word_embed_proj_dim": hidden, "do_layer_norm_before": True, "activation_function": "relu", "bos_token_id": 2,
            "eos_token_id": 2, "pad_token_id": 1, "tie_word_embeddings": True, "torch_dtype": "float16"} | more


SHAPES = {
    "llama-3.2-1b": llama(128001, 32.0, head_dim=64) | sizes(2048, 16, 32, 8, 8192, 128256)
    | {"tie_word_embeddings": True},
    "llama-3.1-8b": llama(128001, 8.0) | sizes(4096, 32, 32, 8, 14336, 128256),
    "mistral-7b": mistral(rope_theta=1e6, max_position_embeddings=32768) | sizes(4096, 32, 32, 8, 14336, 32768),
    "devstral-24b": mistral(rope_theta=1e9, max_position_embeddings=131072) | sizes(5120, 40, 32, 8, 32768, 131072),
    "qwen2.5-0.5b": qwen("qwen2", max_position_embeddings=32768, max_window_layers=24)
    | sizes(896, 24, 14, 2, 4864, 151936) | {"tie_word_embeddings": True},
    "qwen3-0.6b": qwen("qwen3", head_dim=128, max_position_embeddings=40960, max_window_layers=28,
                       attention_bias=False) | sizes(1024, 28, 16, 8, 3072, 151936)
    | {"tie_word_embeddings": True, "eos_token_id": 151645},
    "qwen1.5-moe-a2.7b": qwen("qwen2_moe", max_position_embeddings=8192, max_window_layers=21, num_experts=60,
                              num_experts_per_tok=4, moe_intermediate_size=1408, decoder_sparse_step=1,
                              shared_expert_intermediate_size=5632, norm_topk_prob=False)
    | sizes(2048, 24, 16, 16, 5632, 151936),
    "qwen3-30b-a3b": qwen("qwen3_moe", head_dim=128, max_position_embeddings=40960, max_window_layers=48,
                          attention_bias=False, num_experts=128, num_experts_per_tok=8, moe_intermediate_size=768,
                          decoder_sparse_step=1, mlp_only_layers=[], norm_topk_prob=True)
    | sizes(2048, 48, 32, 4, 6144, 151936) | {"eos_token_id": 151645},
    "glm-4.7-flash-reap": glm_lite(n_routed_experts=48) | sizes(2048, 47, 20, 20, 10240, 154880),
    "deepseek-v2-lite": deepseek(2, q_lora_rank=None, n_routed_experts=64, n_shared_experts=2, num_experts_per_tok=6,
                                 moe_intermediate_size=1408, first_k_dense_replace=1, norm_topk_prob=False,
                                 routed_scaling_factor=1.0, topk_method="greedy", n_group=1, topk_group=1)
    | sizes(2048, 27, 16, 16, 10944, 102400),
    "deepseek-v3": deepseek(3, q_lora_rank=1536, n_routed_experts=256, n_shared_experts=1, num_experts_per_tok=8,
                            moe_intermediate_size=2048, first_k_dense_replace=3, norm_topk_prob=True,
                            routed_scaling_factor=2.5, topk_method="noaux_tc", n_group=8, topk_group=4)
    | sizes(7168, 61, 128, 128, 18432, 129280),
    "mixtral-8x7b": COMMON | {"architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "rms_norm_eps": 1e-5,
                              "rope_theta": 1e6, "sliding_window": None, "num_local_experts": 8, "num_experts_per_tok": 2,
                              "max_position_embeddings": 32768, "bos_token_id": 1, "eos_token_id": 2,
                              "tie_word_embeddings": False} | sizes(4096, 32, 32, 8, 14336, 32000),
    "opt-125m": opt(768, 12, 12),
    "opt-350m": opt(1024, 24, 16, word_embed_proj_dim=512, do_layer_norm_before=False),
    "tiny": llama(2, 8.0, bos_token_id=1) | sizes(192, 4, 6, 2, 500, 1003),
    "tiny-moe": qwen("qwen2_moe", max_position_embeddings=512, max_window_layers=2, num_experts=6, bos_token_id=1,
                     num_experts_per_tok=2, moe_intermediate_size=72, decoder_sparse_step=1, norm_topk_prob=False,
                     shared_expert_intermediate_size=200) | sizes(160, 2, 4, 4, 200, 1003) | {"eos_token_id": 2},
    "tiny-glm": glm_lite(n_routed_experts=6, q_lora_rank=72, kv_lora_rank=48, qk_nope_head_dim=24, qk_rope_head_dim=8,
                         v_head_dim=32, moe_intermediate_size=72, num_experts_per_tok=2)
    | sizes(160, 3, 4, 4, 300, 1003) | {"eos_token_id": 2, "pad_token_id": None, "max_position_embeddings": 512},
}


def mlp(prefix: str, hidden: int, width: int, bias: bool = False) -> list:
    tensors = []
    for name, rows, columns in (("gate", width, hidden), ("up", width, hidden), ("down", hidden, width)):
        tensors.append((f"{prefix}.{name}_proj.weight", [rows, columns]))
        if bias:
            tensors.append((f"{prefix}.{name}_proj.bias", [rows]))
    return tensors


def attention(prefix: str, config: dict) -> list:
    """Queries, keys and values as matrices of their own; biases and norms as the model type has them."""
    hidden, heads, kind = config["hidden_size"], config["num_attention_heads"], config["model_type"]
    dim = config.get("head_dim") or hidden // heads
    rows = {"q": heads * dim, "k": config["num_key_value_heads"] * dim, "v": config["num_key_value_heads"] * dim}
    tensors = [(f"{prefix}.{p}_proj.weight", [n, hidden]) for p, n in rows.items()]
    if kind in ("qwen2", "qwen2_moe") or config.get("attention_bias"):
        tensors += [(f"{prefix}.{p}_proj.bias", [n]) for p, n in rows.items()]
    tensors.append((f"{prefix}.o_proj.weight", [hidden, heads * dim]))
    if config.get("attention_bias") and kind == "llama":
        tensors.append((f"{prefix}.o_proj.bias", [hidden]))
    if kind in ("qwen3", "qwen3_moe"):
        tensors += [(f"{prefix}.q_norm.weight", [dim]), (f"{prefix}.k_norm.weight", [dim])]
    return tensors


def latent_attention(prefix: str, config: dict) -> list:
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    query_rank, rank, rope = config["q_lora_rank"], config["kv_lora_rank"], config["qk_rope_head_dim"]
    nope, value = config["qk_nope_head_dim"], config["v_head_dim"]
    queries = [(f"{prefix}.q_proj.weight", [heads * (nope + rope), hidden])]
    if query_rank:
        queries = [(f"{prefix}.q_a_proj.weight", [query_rank, hidden]), (f"{prefix}.q_a_layernorm.weight", [query_rank]),
                   (f"{prefix}.q_b_proj.weight", [heads * (nope + rope), query_rank])]
    return [*queries, (f"{prefix}.kv_a_proj_with_mqa.weight", [rank + rope, hidden]),
            (f"{prefix}.kv_a_layernorm.weight", [rank]),
            (f"{prefix}.kv_b_proj.weight", [heads * (nope + value), rank]),
            (f"{prefix}.o_proj.weight", [hidden, heads * value])]


def qwen_moe(prefix: str, config: dict) -> list:
    hidden, experts = config["hidden_size"], config["num_experts"]
    tensors = [(f"{prefix}.gate.weight", [experts, hidden])]
    for e in range(experts):
        tensors += mlp(f"{prefix}.experts.{e}", hidden, config["moe_intermediate_size"])
    if config["model_type"] == "qwen2_moe":
        tensors += mlp(f"{prefix}.shared_expert", hidden, config["shared_expert_intermediate_size"])
        tensors.append((f"{prefix}.shared_expert_gate.weight", [1, hidden]))
    return tensors


def glm_moe(prefix: str, config: dict) -> list:
    hidden, experts, width = config["hidden_size"], config["n_routed_experts"], config["moe_intermediate_size"]
    tensors = [(f"{prefix}.gate.weight", [experts, hidden])]
    if config["model_type"] != "deepseek_v2":
        tensors.append((f"{prefix}.gate.e_score_correction_bias", [experts]))
    for e in range(experts):
        tensors += mlp(f"{prefix}.experts.{e}", hidden, width)
    return tensors + mlp(f"{prefix}.shared_experts", hidden, width * config["n_shared_experts"])


def mixtral_moe(prefix: str, config: dict) -> list:
    hidden, width, experts = config["hidden_size"], config["intermediate_size"], config["num_local_experts"]
    shapes = {"w1": [width, hidden], "w3": [width, hidden], "w2": [hidden, width]}
    return [(f"{prefix}.gate.weight", [experts, hidden]),
            *((f"{prefix}.experts.{e}.{w}.weight", shape) for e in range(experts) for w, shape in shapes.items())]


def with_bias(name: str, rows: int, columns: int) -> list:
    return [(f"{name}.weight", [rows, columns]), (f"{name}.bias", [rows])]


def opt_layer(index: int, config: dict) -> list:
    prefix, hidden, width = f"model.decoder.layers.{index}", config["hidden_size"], config["ffn_dim"]
    tensors = []
    for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
        tensors += with_bias(f"{prefix}.self_attn.{name}", hidden, hidden)
    for norm in ("self_attn_layer_norm", "final_layer_norm"):
        tensors += [(f"{prefix}.{norm}.weight", [hidden]), (f"{prefix}.{norm}.bias", [hidden])]
    return tensors + with_bias(f"{prefix}.fc1", width, hidden) + with_bias(f"{prefix}.fc2", hidden, width)


def opt_tensors(config: dict) -> list:
    hidden, width = config["hidden_size"], config["word_embed_proj_dim"]
    tensors = [("model.decoder.embed_tokens.weight", [config["vocab_size"], width]),
               ("model.decoder.embed_positions.weight", [config["max_position_embeddings"] + 2, hidden])]
    if width != hidden:
        tensors += [("model.decoder.project_in.weight", [hidden, width]),
                    ("model.decoder.project_out.weight", [width, hidden])]
    for index in range(config["num_hidden_layers"]):
        tensors += opt_layer(index, config)
    if config["do_layer_norm_before"]:
        tensors += [(f"model.decoder.final_layer_norm.{part}", [hidden]) for part in ("weight", "bias")]
    return tensors


def layer(index: int, config: dict) -> list:
    prefix, hidden, kind = f"model.layers.{index}", config["hidden_size"], config["model_type"]
    tensors = [(f"{prefix}.input_layernorm.weight", [hidden])]
    tensors += (latent_attention if kind in LATENT else attention)(f"{prefix}.self_attn", config)
    tensors.append((f"{prefix}.post_attention_layernorm.weight", [hidden]))
    if kind in ("qwen2_moe", "qwen3_moe"):
        return tensors + qwen_moe(f"{prefix}.mlp", config)
    if kind == "mixtral":
        return tensors + mixtral_moe(f"{prefix}.block_sparse_moe", config)
    if kind in LATENT and index >= config["first_k_dense_replace"]:
        return tensors + glm_moe(f"{prefix}.mlp", config)
    return tensors + mlp(f"{prefix}.mlp", hidden, config["intermediate_size"], bias=config.get("mlp_bias", False))


def tensors_of(config: dict) -> list:
    """(name, shape) of every tensor of the checkpoint, in the order in which the model uses them."""
    if config["model_type"] not in MODEL_TYPES:
        raise ValueError(f"model_type {config['model_type']!r}: known are {', '.join(MODEL_TYPES)}")
    if config["model_type"] == "opt":
        return opt_tensors(config)
    vocab, hidden = config["vocab_size"], config["hidden_size"]
    tensors = [("model.embed_tokens.weight", [vocab, hidden])]
    for index in range(config["num_hidden_layers"]):
        tensors += layer(index, config)
    tensors.append(("model.norm.weight", [hidden]))
    if not config.get("tie_word_embeddings", False):
        tensors.append(("lm_head.weight", [vocab, hidden]))
    return tensors
