// SPDX-License-Identifier: Apache-2.0
#include "octet/llm/layerwise.h"

#include <algorithm>
#include <numeric>

#include "octet/base/checked_math.h"
#include "octet/engine/engine.h"

namespace octet {
namespace {

constexpr int64_t kBlock = kKvBlockSize;

KvCacheSpec one_layer(const Decoder& decoder, DType dtype) {
  KvCacheSpec spec = kv_cache_spec(decoder, dtype);
  spec.layers = 1;
  return spec;
}

/// A batch of one sequence whose blocks lie in order: slot = position.
struct Chunk {
  std::vector<int32_t> positions;
  std::vector<int32_t> starts;
  std::vector<int32_t> contexts;
  std::vector<int32_t> table;

  Chunk(int64_t first, int64_t count) : positions(static_cast<size_t>(count)) {
    std::iota(positions.begin(), positions.end(), static_cast<int32_t>(first));
    starts = {0, static_cast<int32_t>(count)};
    contexts = {static_cast<int32_t>(first + count)};
    table.resize(static_cast<size_t>(ceil_div(first + count, kBlock)));
    std::iota(table.begin(), table.end(), 0);
  }

  [[nodiscard]] Batch batch(std::span<const int32_t> ids) const {
    return {.token_ids = ids,
            .positions = positions,
            .slots = positions,
            .layout = {.sequence_starts = starts,
                       .context_lengths = contexts,
                       .block_tables = table,
                       .max_blocks = static_cast<int64_t>(table.size())}};
  }
};

}  // namespace

LayerwiseRun::LayerwiseRun(Model& model, const QuantSpec& quant_spec, int64_t window)
    : model_(model),
      window_(window),
      decoder_(model.make_decoder(quant_spec)),
      cache_(model.backend(), one_layer(*decoder_, model.dtype()), ceil_div(window, kBlock)),
      arena_(Buffer(model.backend().allocator(), model.ledger(), "workspace",
                    decoder_->workspace_bytes(kLayerwiseChunk, kLayerwiseLogitRows))) {}

LayerwiseRun::~LayerwiseRun() = default;

TensorView LayerwiseRun::hidden(size_t window) {
  const int64_t width = model_.spec().hidden_size;
  return {states_.data() + starts_[window] * width * static_cast<int64_t>(sizeof(float)), DType::kF32,
          Shape{starts_[window + 1] - starts_[window], width}};
}

QuantOptions reference_options() {
  QuantOptions plain;
  plain.quantization.reset();
  plain.activation_scheme = ActivationScheme::kNone;
  return plain;
}

void LayerwiseRun::run(std::span<const std::vector<int32_t>> windows,
                       const std::function<void(double)>& progress) {
  send(windows);
  run_windows(windows, progress);
}

void LayerwiseRun::follow(const Order& order) {
  if (order.kind == OrderKind::kReferenceRun) return run_windows(receive(order), [](double) {});
  arena_.rewind(0);
  (void)head(static_cast<size_t>(order.numbers[0]), order.numbers[1], order.numbers[2], {});
}

void LayerwiseRun::send(std::span<const std::vector<int32_t>> windows) {
  Communicator& communicator = model_.communicator();
  if (communicator.world_size() == 1) return;
  std::vector<int64_t> lengths;
  std::vector<int32_t> ids;
  for (const auto& window : windows) {
    lengths.push_back(static_cast<int64_t>(window.size()));
    ids.insert(ids.end(), window.begin(), window.end());
  }
  give_order(communicator,
             {.kind = OrderKind::kReferenceRun,
              .numbers = {static_cast<int64_t>(lengths.size()), static_cast<int64_t>(ids.size()), window_}});
  communicator.broadcast_values(std::span(lengths));
  communicator.broadcast_values(std::span(ids));
}

std::vector<std::vector<int32_t>> LayerwiseRun::receive(const Order& order) {
  std::vector<int64_t> lengths(static_cast<size_t>(order.numbers[0]));
  std::vector<int32_t> ids(static_cast<size_t>(order.numbers[1]));
  model_.communicator().broadcast_values(std::span(lengths));
  model_.communicator().broadcast_values(std::span(ids));
  std::vector<std::vector<int32_t>> windows;
  auto next = ids.begin();
  for (const int64_t length : lengths) {
    check(length <= ids.end() - next, "windows are made of the ids that come with them");
    windows.emplace_back(next, next + length);
    next += length;
  }
  return windows;
}

void LayerwiseRun::run_windows(std::span<const std::vector<int32_t>> windows,
                               const std::function<void(double)>& progress) {
  release_parameters(head_);
  starts_.assign(1, 0);
  for (const auto& window : windows) starts_.push_back(starts_.back() + static_cast<int64_t>(window.size()));
  states_.reset();
  states_ = Buffer(model_.backend().allocator(), model_.ledger(), "workspace",
                   starts_.back() * model_.spec().hidden_size * static_cast<int64_t>(sizeof(float)));

  std::vector<Parameter> embedding = decoder_->embedding_parameters();
  model_.load_parameters(embedding);
  for (size_t w = 0; w < windows.size(); ++w) embed(windows[w], hidden(w));
  release_parameters(embedding);

  const int64_t layers = model_.spec().num_hidden_layers;
  for (int64_t layer = 0; layer < layers; ++layer) {
    run_layer(layer, windows, [&](double share) {
      progress((static_cast<double>(layer) + share) / static_cast<double>(layers));
    });
  }
  head_ = decoder_->head_parameters();
  if (model_.spec().tie_word_embeddings) {
    for (Parameter& parameter : decoder_->embedding_parameters()) head_.push_back(std::move(parameter));
  }
  model_.load_parameters(head_);
  for (size_t w = 0; w < windows.size(); ++w) decoder_->final_norm(hidden(w));
}

void LayerwiseRun::embed(std::span<const int32_t> ids, TensorView states) {
  for (int64_t first = 0; first < states.rows(); first += kLayerwiseChunk) {
    const int64_t count = std::min(kLayerwiseChunk, states.rows() - first);
    const Chunk chunk(first, count);
    arena_.rewind(0);
    decoder_->embed(ids.subspan(static_cast<size_t>(first), static_cast<size_t>(count)), chunk.positions,
                    states.slice_rows(first, first + count), arena_);
  }
}

void LayerwiseRun::run_layer(int64_t layer, std::span<const std::vector<int32_t>> windows,
                             const std::function<void(double)>& progress) {
  std::vector<Parameter> parameters = decoder_->layer_parameters(layer);
  model_.load_parameters(parameters);
  for (size_t w = 0; w < windows.size(); ++w) {
    const TensorView states = hidden(w);
    for (int64_t first = 0; first < states.rows(); first += kLayerwiseChunk) {
      const int64_t count = std::min(kLayerwiseChunk, states.rows() - first);
      const Chunk chunk(first, count);
      const auto ids = std::span(windows[w]).subspan(static_cast<size_t>(first), static_cast<size_t>(count));
      arena_.rewind(0);
      decoder_->forward_layer(layer, states.slice_rows(first, first + count), chunk.batch(ids),
                              cache_.layers().front(), arena_);
      progress(static_cast<double>(starts_[w] + first + count) / static_cast<double>(starts_.back()));
    }
  }
  release_parameters(parameters);
}

ConstTensorView LayerwiseRun::logits(size_t index, int64_t begin, int64_t end) {
  give_order(model_.communicator(),
             {.kind = OrderKind::kReferenceLogits, .numbers = {static_cast<int64_t>(index), begin, end}});
  arena_.rewind(0);
  return head(index, begin, end, arena_.tensor(DType::kF32, Shape{end - begin, model_.spec().vocab_size}));
}

TensorView LayerwiseRun::head(size_t index, int64_t begin, int64_t end, TensorView logits) {
  decoder_->logits(hidden(index).slice_rows(begin, end), logits, arena_);
  return logits;
}

}  // namespace octet
