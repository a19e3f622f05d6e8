// SPDX-License-Identifier: Apache-2.0
#include "octet/layers/embedding.h"

#include "octet/layers/linear.h"

namespace octet {
namespace {

StoredMatrix table(const std::string& name, const VocabularySpec& spec, StorageRule rule, bool lookup_only) {
  StoredMatrix matrix;
  matrix.name = name;
  matrix.rows = spec.vocab_size;
  matrix.cols = spec.hidden_size;
  matrix.member_rows = {spec.vocab_size};
  matrix.rule = rule;
  matrix.lookup_only = lookup_only;
  return matrix;
}

}  // namespace

Vocabulary::Vocabulary(const LayerContext& context, VocabularySpec spec)
    : context_(context), spec_(std::move(spec)) {
  const QuantSpec& quant = context_.quant_spec;
  if (spec_.tied) {
    embedding_ = table(spec_.embedding, spec_, quant.tied_rule(spec_.embedding, spec_.lm_head), false);
    return;
  }
  embedding_ = table(spec_.embedding, spec_, quant.rule(spec_.embedding, WeightRole::kEmbedding), true);
  lm_head_ = table(spec_.lm_head, spec_, quant.rule(spec_.lm_head, WeightRole::kLmHead), false);
}

void Vocabulary::declare_embedding(std::vector<Parameter>& parameters) {
  parameters.push_back({.name = spec_.embedding + ".weight",
                        .shape = Shape{spec_.vocab_size, spec_.hidden_size},
                        .destination = &embedding_,
                        .offset = 0,
                        .required = true,
                        .twin = spec_.tied ? spec_.lm_head + ".weight" : std::string()});
  if (spec_.tied) declare_input_scales(context_, std::span(&spec_.lm_head, 1), embedding_, parameters);
}

void Vocabulary::declare_lm_head(std::vector<Parameter>& parameters) {
  if (spec_.tied) return;
  parameters.push_back({.name = spec_.lm_head + ".weight",
                        .shape = Shape{spec_.vocab_size, spec_.hidden_size},
                        .destination = &lm_head_,
                        .offset = 0,
                        .required = true,
                        .twin = {}});
  declare_input_scales(context_, std::span(&spec_.lm_head, 1), lm_head_, parameters);
}

void Vocabulary::embed(std::span<const int32_t> ids, TensorView y) const {
  context_.backend.embed(ids, embedding_.matrix.view(), y);
}

void Vocabulary::logits(ConstTensorView x, TensorView y, Arena& arena) const {
  multiply(context_, head(), x, {}, y, arena);
}

int64_t Vocabulary::scratch_bytes(int64_t rows) const {
  return multiply_scratch_bytes(context_, head(), rows);
}

}  // namespace octet
