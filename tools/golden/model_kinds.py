# SPDX-License-Identifier: Apache-2.0
"""The tiny models of tests/golden/models: one row per kind, at sizes no kernel divides.

`config` holds the arguments of the transformers configuration class; `without` maps the name of a
feature to configuration arguments that switch it off, and the golden logits must move when it is.
"""

from dataclasses import dataclass, field

LENGTHS = (1, 7, 40)
LONG = (1, 7, 70)


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
         SMALL | {"hidden_size": 60, "num_attention_heads": 5, "num_key_value_heads": 1, "intermediate_size": 70,
                  "attention_bias": True, "mlp_bias": True, "rms_norm_eps": 1e-2, "rope_parameters": rope(theta=700.0)},
         dialect="v4", variants=("fp8_per_channel",),
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
         SMALL | {"head_dim": 10, "num_attention_heads": 6, "sliding_window": None, "rope_parameters": rope(theta=1e6)},
         dialect="v4", shard_size="60KB"),
)

QWEN_KINDS = (
    Kind("qwen2_tied", "Qwen2Config",
         SMALL | {"tie_word_embeddings": True, "use_sliding_window": False, "rope_parameters": rope(theta=1e6)},
         dialect="v4", file_fields={"sliding_window": 8, "max_window_layers": 1, "use_sliding_window": False}),
    Kind("qwen2_window", "Qwen2Config",
         NARROW | {"num_hidden_layers": 3, "num_key_value_heads": 4, "use_sliding_window": True, "sliding_window": 8,
                  "max_window_layers": 1, "rope_parameters": rope()},
         dialect="v4", without={"window": {"use_sliding_window": False, "sliding_window": None},
                                "max_window_layers": {"max_window_layers": 2}}),
    Kind("qwen2_layer_types", "Qwen2Config",
         NARROW | {"num_hidden_layers": 3, "use_sliding_window": True, "sliding_window": 8, "max_window_layers": 3,
                  "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
                  "rope_parameters": rope()},
         without={"layer_types": {"layer_types": ["full_attention"] * 3}}),
    Kind("qwen3", "Qwen3Config",
         NARROW | {"head_dim": 32, "rope_parameters": rope(theta=1e6)}, shard_size="50KB",
         variants=("fp8_per_channel", "fp8_per_channel_tables", "fp8_per_tensor_tables", "fp8_per_block_tables",
                   "fp8_e5m2_per_channel", "raw_cast_tables")),
    Kind("qwen3_yarn", "Qwen3Config",
         NARROW | {"head_dim": 24, "tie_word_embeddings": True, "rope_parameters": rope("yarn", **YARN)},
         dialect="v4", lengths=LONG, without=NO_ROPE_SCALING),
)

KINDS = LLAMA_KINDS + MISTRAL_KINDS + QWEN_KINDS
