// SPDX-License-Identifier: Apache-2.0
#include "octet/layers/embedding.h"

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

constexpr int64_t kAlignmentSlack = 128;

LinearSpec projection(const std::string& name, int64_t in_features, int64_t out_features) {
  return {.name = name, .members = {{name, out_features}}, .in_features = in_features, .bias = false};
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

void Vocabulary::embed(std::span<const int32_t> ids, TensorView y, Arena& /*arena*/) const {
  context_.backend.embed(ids, embedding_.matrix.view(), y);
}

void Vocabulary::logits(ConstTensorView x, TensorView y, Arena& arena) const {
  multiply(context_, head(), x, {}, y, arena);
}

int64_t Vocabulary::embed_scratch_bytes(int64_t /*tokens*/) const {
  return 0;
}

int64_t Vocabulary::scratch_bytes(int64_t rows) const {
  return multiply_scratch_bytes(context_, head(), rows);
}

ProjectedVocabulary::ProjectedVocabulary(const LayerContext& context, VocabularySpec spec,
                                         const ProjectionNames& names, int64_t hidden_size)
    : Vocabulary(context, std::move(spec)),
      project_in_(context, projection(names.project_in, this->spec().hidden_size, hidden_size)),
      project_out_(context, projection(names.project_out, hidden_size, this->spec().hidden_size)) {}

void ProjectedVocabulary::declare_embedding(std::vector<Parameter>& parameters) {
  Vocabulary::declare_embedding(parameters);
  project_in_.declare(parameters);
}

void ProjectedVocabulary::declare_lm_head(std::vector<Parameter>& parameters) {
  project_out_.declare(parameters);
  Vocabulary::declare_lm_head(parameters);
}

void ProjectedVocabulary::embed(std::span<const int32_t> ids, TensorView y, Arena& arena) const {
  const ArenaScope scope(arena);
  const TensorView narrow = arena.tensor(DType::kF32, Shape{y.rows(), spec().hidden_size});  // [T, E]
  Vocabulary::embed(ids, narrow, arena);
  project_in_.forward(narrow, y, arena);
}

void ProjectedVocabulary::logits(ConstTensorView x, TensorView y, Arena& arena) const {
  const ArenaScope scope(arena);
  const TensorView narrow = arena.tensor(DType::kF32, Shape{x.rows(), spec().hidden_size});  // [L, E]
  project_out_.forward(x, narrow, arena);
  Vocabulary::logits(narrow, y, arena);
}

int64_t ProjectedVocabulary::embed_scratch_bytes(int64_t tokens) const {
  return tokens * spec().hidden_size * static_cast<int64_t>(sizeof(float)) + kAlignmentSlack +
         project_in_.scratch_bytes(tokens);
}

int64_t ProjectedVocabulary::scratch_bytes(int64_t rows) const {
  return rows * spec().hidden_size * static_cast<int64_t>(sizeof(float)) + kAlignmentSlack +
         project_out_.scratch_bytes(rows) + Vocabulary::scratch_bytes(rows);
}

}  // namespace octet
