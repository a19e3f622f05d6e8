// SPDX-License-Identifier: Apache-2.0
/// A decoder that passes through memory one layer at a time: for a reference that does not fit beside the
/// model.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "octet/engine/kv_cache.h"
#include "octet/engine/orders.h"
#include "octet/llm/model.h"

namespace octet {

/// Holds the final hidden states of some windows of tokens, and the head that turns them into logits. Not
/// thread-safe.
class LayerwiseRun {
 public:
  /// A decoder over the files of `model`, stored as `quant_spec` says. Both must outlive it.
  LayerwiseRun(Model& model, const QuantSpec& quant_spec, int64_t window);
  ~LayerwiseRun();

  /// Runs all windows (each a sequence of its own, at most `window` tokens) through embedding, layers and
  /// final norm. `progress` is called after every chunk of every layer with the share done;
  /// what it throws ends the run.
  void run(std::span<const std::vector<int32_t>> windows, const std::function<void(double)>& progress);

  /// On ranks other than 0: takes part in `run` or `logits` of rank 0, one order of kReferenceRun or
  /// kReferenceLogits at a time.
  void follow(const Order& order);

  /// Logits [end - begin, V] of rows [begin, end) of window `index`; valid until the next call.
  [[nodiscard]] ConstTensorView logits(size_t index, int64_t begin, int64_t end);

 private:
  void embed(std::span<const int32_t> ids, TensorView states);
  void run_windows(std::span<const std::vector<int32_t>> windows,
                   const std::function<void(double)>& progress);
  void send(std::span<const std::vector<int32_t>> windows);
  [[nodiscard]] std::vector<std::vector<int32_t>> receive(const Order& order);
  [[nodiscard]] TensorView head(size_t index, int64_t begin, int64_t end, TensorView logits);
  void run_layer(int64_t layer, std::span<const std::vector<int32_t>> windows,
                 const std::function<void(double)>& progress);
  [[nodiscard]] TensorView hidden(size_t window);  // [T, H]

  Model& model_;
  int64_t window_;
  std::unique_ptr<Decoder> decoder_;
  KvCache cache_;  // of one layer
  Arena arena_;
  Buffer states_;                // the hidden states of all windows
  std::vector<int64_t> starts_;  // first row of each window, and the end
  std::vector<Parameter> head_;  // loaded while logits are asked for
};

/// How the unquantized reference stores its weights: as they are.
[[nodiscard]] QuantOptions reference_options();

/// Tokens of one pass through a layer.
inline constexpr int64_t kLayerwiseChunk = 512;
/// Rows of logits at a time.
inline constexpr int64_t kLayerwiseLogitRows = 64;

}  // namespace octet
