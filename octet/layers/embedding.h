// SPDX-License-Identifier: Apache-2.0
/// The two vocabulary tables: token ids to rows, and rows to logits. In a tied model they are one table in
/// memory.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "octet/layers/context.h"
#include "octet/layers/parameter.h"

namespace octet {

struct VocabularySpec {
  std::string embedding = "model.embed_tokens";  ///< checkpoint names without ".weight"
  std::string lm_head = "lm_head";
  int64_t vocab_size = 0;   // V
  int64_t hidden_size = 0;  // H
  bool tied = false;
};

class Vocabulary {
 public:
  Vocabulary(const LayerContext& context, VocabularySpec spec);
  Vocabulary(const Vocabulary&) = delete;  // parameters point into it
  Vocabulary& operator=(const Vocabulary&) = delete;

  /// The parameters of look-up and head; the same single one for both when tied.
  void declare_embedding(std::vector<Parameter>& parameters);
  void declare_lm_head(std::vector<Parameter>& parameters);

  /// ids [T], each in [0, V) -> y [T, H] float32.
  void embed(std::span<const int32_t> ids, TensorView y) const;
  /// x [L, H] float32 -> logits [L, V] float32.
  void logits(ConstTensorView x, TensorView y, Arena& arena) const;
  [[nodiscard]] int64_t scratch_bytes(int64_t rows) const;

  [[nodiscard]] const VocabularySpec& spec() const { return spec_; }

 private:
  [[nodiscard]] const StoredMatrix& head() const { return spec_.tied ? embedding_ : lm_head_; }

  LayerContext context_;
  VocabularySpec spec_;
  StoredMatrix embedding_;  // [V, H]
  StoredMatrix lm_head_;    // [V, H], unused when tied
};

}  // namespace octet
