// SPDX-License-Identifier: Apache-2.0
#include "octet/layers/embedding.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "octet/layers/shard.h"

namespace octet {
namespace {

/// Ids that are made a rank's own at a time.
constexpr int64_t kIdChunk = 256;
/// Rows of logits that rank 0 gathers at a time.
constexpr int64_t kGatherRows = 8;

StoredMatrix table(const std::string& name, IndexRange rows, int64_t cols, StorageRule rule,
                   bool lookup_only) {
  StoredMatrix matrix;
  matrix.name = name;
  matrix.rows = rows.size();
  matrix.cols = cols;
  matrix.member_rows = {rows.size()};
  matrix.rule = rule;
  matrix.lookup_only = lookup_only;
  return matrix;
}

LinearSpec projection(const std::string& name, int64_t in_features, int64_t out_features) {
  return {.name = name, .members = {{name, out_features}}, .in_features = in_features, .bias = false};
}

}  // namespace

Vocabulary::Vocabulary(const LayerContext& context, VocabularySpec spec)
    : context_(context), spec_(std::move(spec)), rows_(width_share(spec_.vocab_size, context.communicator)) {
  const QuantSpec& quant = context_.quant_spec;
  if (spec_.tied) {
    embedding_ = table(spec_.embedding, rows_, spec_.hidden_size,
                       quant.tied_rule(spec_.embedding, spec_.lm_head), false);
    return;
  }
  embedding_ = table(spec_.embedding, rows_, spec_.hidden_size,
                     quant.rule(spec_.embedding, WeightRole::kEmbedding), true);
  lm_head_ =
      table(spec_.lm_head, rows_, spec_.hidden_size, quant.rule(spec_.lm_head, WeightRole::kLmHead), false);
}

void Vocabulary::declare_embedding(std::vector<Parameter>& parameters) {
  parameters.push_back({.name = spec_.embedding + ".weight",
                        .shape = Shape{spec_.vocab_size, spec_.hidden_size},
                        .destination = &embedding_,
                        .offset = 0,
                        .required = true,
                        .twin = spec_.tied ? spec_.lm_head + ".weight" : std::string(),
                        .slice = {.rows = rows_, .cols = {}}});
  if (spec_.tied) declare_input_scales(context_, std::span(&spec_.lm_head, 1), embedding_, parameters);
}

void Vocabulary::declare_lm_head(std::vector<Parameter>& parameters) {
  if (spec_.tied) return;
  parameters.push_back({.name = spec_.lm_head + ".weight",
                        .shape = Shape{spec_.vocab_size, spec_.hidden_size},
                        .destination = &lm_head_,
                        .offset = 0,
                        .required = true,
                        .twin = {},
                        .slice = {.rows = rows_, .cols = {}}});
  declare_input_scales(context_, std::span(&spec_.lm_head, 1), lm_head_, parameters);
}

void Vocabulary::embed(std::span<const int32_t> ids, TensorView y, Arena& /*arena*/) const {
  if (!is_cut()) return context_.backend.embed(ids, embedding_.matrix.view(), y);
  const auto tokens = static_cast<int64_t>(ids.size());
  for (int64_t first = 0; first < tokens;) {
    const int64_t end = embed_own(ids, first, y);
    first = end > first ? end : clear_others(ids, first, y);
  }
  context_.communicator.all_reduce_sum({y.row<float>(0), static_cast<size_t>(tokens * spec_.hidden_size)});
}

/// Looks up the ids from `first` on that this rank holds, up to the first that it does not; returns its
/// place.
int64_t Vocabulary::embed_own(std::span<const int32_t> ids, int64_t first, TensorView y) const {
  std::array<int32_t, kIdChunk> own{};
  const int64_t most = std::min(kIdChunk, static_cast<int64_t>(ids.size()) - first);
  int64_t count = 0;
  while (count < most && holds(ids[static_cast<size_t>(first + count)])) {
    own.at(static_cast<size_t>(count)) =
        static_cast<int32_t>(ids[static_cast<size_t>(first + count)] - rows_.begin);
    ++count;
  }
  if (count == 0) return first;
  context_.backend.embed(std::span(own).first(static_cast<size_t>(count)), embedding_.matrix.view(),
                         y.slice_rows(first, first + count));
  return first + count;
}

/// The same for those that other ranks hold: 0 here, so that the sum over the ranks is theirs.
int64_t Vocabulary::clear_others(std::span<const int32_t> ids, int64_t first, TensorView y) const {
  while (first < static_cast<int64_t>(ids.size()) && !holds(ids[static_cast<size_t>(first)])) {
    std::fill_n(y.row<float>(first++), spec_.hidden_size, 0.0F);
  }
  return first;
}

void Vocabulary::logits(ConstTensorView x, TensorView y, Arena& arena) const {
  if (!is_cut()) return multiply(context_, head(), x, {}, y, arena);
  const ArenaScope scope(arena);
  const TensorView own = arena.tensor(DType::kF32, Shape{x.rows(), rows_.size()});  // [L, V of this rank]
  multiply(context_, head(), x, {}, own, arena);
  const bool first_rank = context_.communicator.rank() == 0;
  const int64_t ranks = context_.communicator.world_size();
  const Gathered room{
      .sizes = {reinterpret_cast<int64_t*>(arena.take(ranks * static_cast<int64_t>(sizeof(int64_t)))),
                static_cast<size_t>(ranks)},
      .all = arena.tensor(DType::kF32,
                          Shape{first_rank ? std::min(kGatherRows, x.rows()) : 0, spec_.vocab_size})};
  for (int64_t row = 0; row < x.rows(); row += kGatherRows) {
    const int64_t end = std::min(x.rows(), row + kGatherRows);
    gather_rows(own.slice_rows(row, end), room, first_rank ? y.slice_rows(row, end) : y);
  }
}

/// The ranks' columns of some rows come one rank after the other and are put side by side.
void Vocabulary::gather_rows(ConstTensorView own, const Gathered& room, TensorView y) const {
  Communicator& communicator = context_.communicator;
  const int64_t ranks = communicator.world_size();
  int64_t total = 0;
  for (int64_t rank = 0; rank < ranks; ++rank) {
    const int64_t bytes = own.rows() * width_share(spec_.vocab_size, rank, ranks).size() * kFloatBytes;
    room.sizes[static_cast<size_t>(rank)] = bytes;
    total += bytes;
  }
  const bool first_rank = communicator.rank() == 0;
  communicator.gather({own.data(), static_cast<size_t>(own.rows() * own.cols() * kFloatBytes)}, room.sizes,
                      {room.all.data(), static_cast<size_t>(first_rank ? total : 0)});
  const std::byte* from = room.all.data();
  for (int64_t rank = 0; rank < ranks && first_rank; ++rank) {
    const IndexRange columns = width_share(spec_.vocab_size, rank, ranks);
    const auto bytes = static_cast<size_t>(columns.size() * kFloatBytes);
    for (int64_t row = 0; row < own.rows(); ++row, from += bytes)
      std::memcpy(y.row<float>(row) + columns.begin, from, bytes);
  }
}

int64_t Vocabulary::embed_scratch_bytes(int64_t /*tokens*/) const {
  return 0;
}

int64_t Vocabulary::scratch_bytes(int64_t rows) const {
  const int64_t inner = multiply_scratch_bytes(context_, head(), rows);
  if (!is_cut()) return inner;
  const bool first_rank = context_.communicator.rank() == 0;
  const int64_t gathered = first_rank ? std::min(kGatherRows, rows) * spec_.vocab_size : 0;
  const int64_t sizes = context_.communicator.world_size() * static_cast<int64_t>(sizeof(int64_t));
  return inner + (rows * rows_.size() + gathered) * kFloatBytes + sizes + 3 * kAlignmentSlack;
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
  return tokens * spec().hidden_size * kFloatBytes + kAlignmentSlack + project_in_.scratch_bytes(tokens);
}

int64_t ProjectedVocabulary::scratch_bytes(int64_t rows) const {
  return rows * spec().hidden_size * kFloatBytes + kAlignmentSlack + project_out_.scratch_bytes(rows) +
         Vocabulary::scratch_bytes(rows);
}

}  // namespace octet
