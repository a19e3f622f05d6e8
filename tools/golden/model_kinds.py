# SPDX-License-Identifier: Apache-2.0
"""The tiny models of tests/golden/models: one row per kind, at sizes no kernel divides.

`config` holds the arguments of the transformers configuration class; `without` maps the name of a
feature to configuration arguments that switch it off, and the golden logits must move when it is.
"""

from dataclasses import dataclass, field

LENGTHS = (1, 7, 40)
LONG = (1, 7, 70)
SHORT = (1, 7, 24)


@dataclass(frozen=True)
class Kind:
    name: str
    config_class: str
    config: dict
    dialect: str = "v5"
    dtype: str = "bfloat16"
    shard_size: str = "5GB"
    lengths: tuple = LENGTHS
    variants: tuple = ()
    file_fields: dict = field(default_factory=dict)
    without: dict = field(default_factory=dict)
    silent: str = ""  # tensors that end so cannot move the logits
    experts: str = ""  # "fused": all experts of a layer in one tensor; "transposed": and that turned round


ALL_VARIANTS = ("fp8_per_channel", "fp8_per_channel_tables", "fp8_per_tensor_tables", "fp8_per_block_tables",
                "fp8_e5m2_per_channel", "raw_cast_tables")

SMALL = {"vocab_size": 131, "hidden_size": 48, "intermediate_size": 100, "num_hidden_layers": 2,
         "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128,
         "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": None, "tie_word_embeddings": False}


# For kinds with long sequences or many variants: their logits would fill the folder.
NARROW = SMALL | {"vocab_size": 67, "hidden_size": 40, "intermediate_size": 68}


def rope(rope_type: str = "default", theta: float = 10000.0, **more) -> dict:
    return {"rope_type": rope_type, "rope_theta": theta, **more}


NO_ROPE_SCALING = {"rope scaling": {"rope_parameters": rope()}}
LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}
YARN = {"factor": 4.0, "original_max_position_embeddings": 32}

LLAMA_KINDS = (
    Kind("llama_tied", "LlamaConfig", SMALL | {"tie_word_embeddings": True, "rope_parameters": rope()},
         variants=("fp8_per_channel", "fp8_per_channel_tables"),
         without={"theta": {"rope_parameters": rope(theta=500.0)}}),
    Kind("llama_bias", "LlamaConfig",
         NARROW | {"hidden_size": 60, "num_attention_heads": 5, "num_key_value_heads": 1, "intermediate_size": 70,
                   "attention_bias": True, "mlp_bias": True, "rms_norm_eps": 1e-2,
                   "rope_parameters": rope(theta=700.0)},
         dialect="v4", variants=ALL_VARIANTS,
         without={"eps": {"rms_norm_eps": 1e-5}, "theta": {"rope_parameters": rope()}}),
    Kind("llama_linear", "LlamaConfig", NARROW | {"rope_parameters": rope("linear", factor=4.0)}, dialect="v4",
         shard_size="30KB", lengths=LONG, without=NO_ROPE_SCALING),
    Kind("llama_llama3", "LlamaConfig", NARROW | {"rope_parameters": rope("llama3", **LLAMA3)}, lengths=LONG,
         without=NO_ROPE_SCALING),
    Kind("llama_llama3_float16", "LlamaConfig",
         NARROW | {"head_dim": 20, "eos_token_id": [2, 5, 9], "rope_parameters": rope("llama3", 5000.0, **LLAMA3)},
         dialect="v4", dtype="float16", lengths=LONG,
         without={"rope scaling": {"rope_parameters": rope(theta=5000.0)}}),
    Kind("llama_yarn", "LlamaConfig", NARROW | {"rope_parameters": rope("yarn", **YARN)}, lengths=LONG,
         without=NO_ROPE_SCALING
         | {"attention factor": {"rope_parameters": rope("yarn", attention_factor=1.0, **YARN)}}),
    Kind("llama_yarn_mscale", "LlamaConfig",
         NARROW | {"head_dim": 16, "rope_parameters": rope("yarn", mscale=1.0, mscale_all_dim=0.5, beta_fast=8.0,
                                                          beta_slow=2.0, **YARN)},
         dialect="v4", lengths=LONG,
         without={"mscale": {"rope_parameters": rope("yarn", beta_fast=8.0, beta_slow=2.0, **YARN)},
                  "betas": {"rope_parameters": rope("yarn", mscale=1.0, mscale_all_dim=0.5, **YARN)}}),
    Kind("llama_yarn_factor", "LlamaConfig",
         NARROW | {"rope_parameters": rope("yarn", 3000.0, attention_factor=1.3, **YARN)}, lengths=LONG,
         without={"attention factor": {"rope_parameters": rope("yarn", 3000.0, **YARN)}}),
    Kind("llama_float32", "LlamaConfig",
         NARROW | {"hidden_size": 36, "num_attention_heads": 3, "num_key_value_heads": 3, "intermediate_size": 70,
                  "tie_word_embeddings": True, "rope_parameters": rope()}, dtype="float32"),
)

MISTRAL_KINDS = (
    Kind("mistral_window", "MistralConfig",
         NARROW | {"head_dim": 32, "num_attention_heads": 4, "sliding_window": 8,
                  "num_key_value_heads": 1, "rope_parameters": rope()},
         without={"window": {"sliding_window": None}, "window's width": {"sliding_window": 9}}),
    Kind("mistral_full", "MistralConfig",
         NARROW | {"head_dim": 10, "num_attention_heads": 6, "sliding_window": None,
                   "rope_parameters": rope(theta=1e6)},
         dialect="v4", shard_size="40KB", variants=ALL_VARIANTS),
)

QWEN_KINDS = (
    Kind("qwen2_tied", "Qwen2Config",
         SMALL | {"tie_word_embeddings": True, "use_sliding_window": False, "rope_parameters": rope(theta=1e6)},
         dialect="v4", file_fields={"sliding_window": 8, "max_window_layers": 1, "use_sliding_window": False}),
    Kind("qwen2_window", "Qwen2Config",
         NARROW | {"num_hidden_layers": 3, "num_key_value_heads": 4, "use_sliding_window": True, "sliding_window": 8,
                  "max_window_layers": 1, "rope_parameters": rope()},
         dialect="v4", variants=ALL_VARIANTS, without={"window": {"use_sliding_window": False, "sliding_window": None},
                                "max_window_layers": {"max_window_layers": 2}}),
    Kind("qwen2_layer_types", "Qwen2Config",
         NARROW | {"num_hidden_layers": 3, "use_sliding_window": True, "sliding_window": 8, "max_window_layers": 3,
                  "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
                  "rope_parameters": rope()},
         without={"layer_types": {"layer_types": ["full_attention"] * 3}}),
    Kind("qwen3", "Qwen3Config",
         NARROW | {"head_dim": 32, "rope_parameters": rope(theta=1e6)}, shard_size="50KB",
         variants=ALL_VARIANTS),
    Kind("qwen3_yarn", "Qwen3Config",
         NARROW | {"head_dim": 24, "tie_word_embeddings": True, "rope_parameters": rope("yarn", **YARN)},
         dialect="v4", lengths=LONG, without=NO_ROPE_SCALING),
)

KINDS = LLAMA_KINDS + MISTRAL_KINDS + QWEN_KINDS

OPT = {"vocab_size": 67, "hidden_size": 36, "ffn_dim": 50, "num_hidden_layers": 2, "num_attention_heads": 4,
       "max_position_embeddings": 64, "word_embed_proj_dim": 36, "do_layer_norm_before": True, "bos_token_id": 2,
       "eos_token_id": 2, "pad_token_id": 1, "dropout": 0.0}
MOE = SMALL | {"vocab_size": 67, "hidden_size": 24, "intermediate_size": 40}
LATENT = {"num_key_value_heads": 4, "q_lora_rank": 20, "kv_lora_rank": 12, "qk_nope_head_dim": 10,
          "qk_rope_head_dim": 6, "v_head_dim": 14, "n_routed_experts": 6, "n_shared_experts": 1,
          "num_experts_per_tok": 2, "moe_intermediate_size": 22, "norm_topk_prob": True}

MORE_KINDS = (
    Kind("qwen2_moe", "Qwen2MoeConfig",
         MOE | {"num_experts": 5, "num_experts_per_tok": 2, "moe_intermediate_size": 22, "norm_topk_prob": False,
                "shared_expert_intermediate_size": 30, "decoder_sparse_step": 1, "rope_parameters": rope()},
         dialect="v4", lengths=SHORT, variants=ALL_VARIANTS,
         without={"norm_topk_prob": {"norm_topk_prob": True}, "experts per token": {"num_experts_per_tok": 3}}),
    Kind("qwen2_moe_mixed", "Qwen2MoeConfig",
         MOE | {"num_hidden_layers": 3, "num_experts": 5, "num_experts_per_tok": 2, "moe_intermediate_size": 22,
                "shared_expert_intermediate_size": 30, "decoder_sparse_step": 2, "mlp_only_layers": [],
                "norm_topk_prob": True, "rope_parameters": rope()}, lengths=SHORT),
    Kind("qwen3_moe", "Qwen3MoeConfig",
         MOE | {"head_dim": 16, "num_experts": 6, "num_experts_per_tok": 3, "moe_intermediate_size": 22,
                "norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": [], "rope_parameters": rope()},
         shard_size="30KB", lengths=SHORT, variants=ALL_VARIANTS,
         without={"norm_topk_prob": {"norm_topk_prob": False}}),
    Kind("mixtral", "MixtralConfig",
         MOE | {"num_local_experts": 5, "num_experts_per_tok": 2, "sliding_window": None, "rope_parameters": rope()},
         dialect="v4", lengths=SHORT, variants=ALL_VARIANTS),
    Kind("mixtral_fused", "MixtralConfig",
         MOE | {"num_local_experts": 5, "num_experts_per_tok": 2, "sliding_window": None, "rope_parameters": rope()},
         lengths=SHORT, variants=("fp8_per_tensor_tables",), experts="fused"),
    Kind("qwen3_moe_transposed", "Qwen3MoeConfig",
         MOE | {"head_dim": 16, "num_experts": 6, "num_experts_per_tok": 3, "moe_intermediate_size": 22,
                "norm_topk_prob": False, "decoder_sparse_step": 1, "mlp_only_layers": [1], "rope_parameters": rope()},
         lengths=SHORT, variants=("fp8_per_block_tables",), experts="transposed"),
    Kind("deepseek_v2_lite", "DeepseekV2Config",
         MOE | LATENT | {"q_lora_rank": None, "topk_method": "greedy", "norm_topk_prob": False, "n_shared_experts": 2,
                         "first_k_dense_replace": 1, "routed_scaling_factor": 1.0,
                         "rope_parameters": rope("yarn", mscale=0.707, mscale_all_dim=0.707, **YARN)},
         dialect="v4", lengths=LONG, variants=ALL_VARIANTS,
         without={"mscale": {"rope_parameters": rope("yarn", mscale=0.707, mscale_all_dim=0.1, **YARN)}}),
    Kind("deepseek_v2", "DeepseekV2Config",
         MOE | LATENT | {"topk_method": "group_limited_greedy", "n_group": 3, "topk_group": 1, "norm_topk_prob": False,
                         "first_k_dense_replace": 0, "routed_scaling_factor": 4.0, "rope_parameters": rope()},
         lengths=SHORT, variants=ALL_VARIANTS,
         without={"groups": {"topk_method": "greedy", "n_group": 1, "topk_group": 1}}),
    Kind("glm4_moe_lite", "Glm4MoeLiteConfig",
         MOE | LATENT | {"routed_scaling_factor": 1.8, "n_group": 1, "topk_group": 1,
                         "mlp_layer_types": ["dense", "sparse"], "rms_norm_eps": 1e-5, "rope_parameters": rope()},
         dialect="v4", file_fields={"first_k_dense_replace": 1}, lengths=SHORT, variants=ALL_VARIANTS,
         without={"routed_scaling_factor": {"routed_scaling_factor": 1.0}}),
    Kind("deepseek_v3", "DeepseekV3Config",
         MOE | LATENT | {"routed_scaling_factor": 2.5, "n_group": 3, "topk_group": 2, "first_k_dense_replace": 1,
                         "rope_parameters": rope("yarn", mscale=1.0, mscale_all_dim=1.0, **YARN)}, lengths=LONG,
         variants=ALL_VARIANTS,
         without={"groups": {"n_group": 1, "topk_group": 1},
                  "mscale": {"rope_parameters": rope("yarn", mscale=1.0, **YARN)}}),
    Kind("opt", "OPTConfig", OPT, dtype="float16", lengths=SHORT, variants=ALL_VARIANTS,
         silent="k_proj.bias"),  # without rotation it adds the same to every key's score
    Kind("opt_post_norm", "OPTConfig", OPT | {"word_embed_proj_dim": 20, "do_layer_norm_before": False},
         dtype="float16", lengths=SHORT, variants=ALL_VARIANTS, silent="k_proj.bias"),
    Kind("opt_plain", "OPTConfig",
         OPT | {"enable_bias": False, "layer_norm_elementwise_affine": False, "_remove_final_layer_norm": True,
                "tie_word_embeddings": False}, lengths=SHORT, variants=("fp8_per_channel_tables",)),
    Kind("ministral3", "Ministral3Config",
         NARROW | {"head_dim": 12, "sliding_window": None,
                   "rope_parameters": rope("yarn", mscale=1.0, mscale_all_dim=1.0, llama_4_scaling_beta=0.4,
                                           **YARN | {"original_max_position_embeddings": 8})}, lengths=LONG,
         variants=ALL_VARIANTS,
         without={"query temperature": {"rope_parameters": rope(
             "yarn", mscale=1.0, mscale_all_dim=1.0, llama_4_scaling_beta=0.0,
             **YARN | {"original_max_position_embeddings": 8})}}),
)
