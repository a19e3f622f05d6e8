# SPDX-License-Identifier: Apache-2.0
"""Models of transformers, tiny and random, wrapped beside themselves unwrapped."""
import copy

import pytest

torch = pytest.importorskip("torch", reason="octet.torch needs PyTorch")
transformers = pytest.importorskip("transformers")

from octet.torch import FP8Experts, FP8GemmOptions, FP8Linear, enable_fp8_gemm, load_fp8, report, save_fp8  # noqa: E402

COMMON = {"vocab_size": 96, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
          "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


def llama(**more):
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**COMMON, num_key_value_heads=2,
                                                                  intermediate_size=128, **more))


def opt():
    return transformers.OPTForCausalLM(transformers.OPTConfig(**COMMON, ffn_dim=128, word_embed_proj_dim=64))


def qwen2_moe():
    config = transformers.Qwen2MoeConfig(**COMMON, num_key_value_heads=2, intermediate_size=128, num_experts=4,
                                         num_experts_per_tok=2, moe_intermediate_size=64,
                                         shared_expert_intermediate_size=128)
    return transformers.Qwen2MoeForCausalLM(config)


MODELS = {"llama": llama, "opt": opt, "qwen2_moe": qwen2_moe}
PROMPT = torch.tensor([[1, 5, 17, 33, 8], [1, 40, 2 + 9, 7, 60]])


def generate(model):
    return model.generate(PROMPT, attention_mask=torch.ones_like(PROMPT), max_new_tokens=8, do_sample=False)


@pytest.mark.parametrize("storage", ["keep", "cpu_offload", "discard"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_a_wrapped_and_an_unwrapped_model_generate_side_by_side(name, dtype, storage):
    plain = MODELS[name]().to(dtype).eval()
    before = generate(plain)
    wrapped = enable_fp8_gemm(plain, inplace=False,
                              options=FP8GemmOptions(experts=True, fp16_weight_storage=storage))
    with torch.no_grad():
        logits, expected = wrapped(PROMPT).logits.float(), plain(PROMPT).logits.float()
    assert (logits - expected).norm() < 0.25 * expected.norm()
    ids = generate(wrapped)
    assert ids.shape[1] > PROMPT.shape[1] and torch.equal(ids, generate(wrapped))
    assert torch.equal(generate(plain), before)
    assert not any(isinstance(module, (FP8Linear, FP8Experts)) for module in plain.modules())


@pytest.mark.parametrize("name", MODELS)
def test_copies_and_saved_models_generate_the_same(name, tmp_path):
    pytest.importorskip("safetensors")
    plain = MODELS[name]().to(torch.bfloat16).eval()
    fresh = MODELS[name]().to(torch.bfloat16).eval()
    wrapped = enable_fp8_gemm(plain, options=FP8GemmOptions(experts=True))
    expected = generate(wrapped)
    assert torch.equal(generate(copy.deepcopy(wrapped)), expected)
    save_fp8(wrapped, tmp_path)
    assert torch.equal(generate(load_fp8(fresh, tmp_path)), expected)


def test_a_mixture_really_halves():
    model = qwen2_moe().to(torch.bfloat16)
    config = model.config
    linears = report(enable_fp8_gemm(copy.deepcopy(model)))
    whole = report(enable_fp8_gemm(model, options=FP8GemmOptions(experts=True)))
    experts = [entry for entry in whole.entries if entry.kind == "experts"]
    assert len(experts) == config.num_hidden_layers and all(entry.wrapped for entry in experts)
    assert sum(e.bytes for e in experts) <= 0.52 * sum(e.bytes_16bit for e in experts)
    assert [entry.reason for entry in linears.left_alone] == ["fused experts, and FP8GemmOptions.experts is False"] * 2
    assert whole.bytes_16bit > 1.5 * linears.bytes_16bit


def test_a_tied_head_is_listed_as_tied():
    model = enable_fp8_gemm(llama(tie_word_embeddings=True).to(torch.bfloat16).eval())
    entry = report(model).entries[-1]
    assert entry.name == "lm_head" and entry.tied_with == "model.embed_tokens"
    assert generate(model).shape[1] > PROMPT.shape[1]


@pytest.mark.parametrize("storage", ["keep", "cpu_offload", "discard"])
def test_weights_can_be_tied_again(storage):
    model = enable_fp8_gemm(llama(tie_word_embeddings=True).to(torch.bfloat16).eval(),
                            options=FP8GemmOptions(fp16_weight_storage=storage))
    before = generate(model)
    model.tie_weights()
    assert torch.equal(generate(model), before)
    with torch.no_grad():
        model.model.embed_tokens.weight.mul_(-1)
    model.tie_weights()
    copied = enable_fp8_gemm(llama(tie_word_embeddings=True).to(torch.bfloat16).eval(), options=model.lm_head.options)
    copied.lm_head.weight = model.model.embed_tokens.weight
    hidden = torch.randn(3, 64, dtype=torch.bfloat16)
    with torch.no_grad():
        assert torch.equal(model.lm_head(hidden), copied.lm_head(hidden))


@pytest.mark.parametrize("storage", ["keep", "cpu_offload", "discard"])
def test_training_with_checkpoints_learns(storage):
    model = enable_fp8_gemm(llama().train(), options=FP8GemmOptions(fp16_weight_storage=storage))
    model.gradient_checkpointing_enable()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        losses.append(model(PROMPT, labels=PROMPT).loss)
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.95 * losses[0]


def test_every_hidden_state_that_requires_grad_passes():
    model = enable_fp8_gemm(llama().train())
    loss = model(PROMPT, labels=PROMPT).loss
    loss.backward()
    assert model.model.embed_tokens.weight.grad.abs().sum() > 0
