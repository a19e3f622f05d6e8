// SPDX-License-Identifier: Apache-2.0
/// The two vocabulary tables: token ids to rows, and rows to logits. In a tied model they are one table in
/// memory.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "octet/layers/context.h"
#include "octet/layers/linear.h"
#include "octet/layers/parameter.h"

namespace octet {

struct VocabularySpec {
  std::string embedding = "model.embed_tokens";  ///< checkpoint names without ".weight"
  std::string lm_head = "lm_head";
  int64_t vocab_size = 0;   // V
  int64_t hidden_size = 0;  // H: the tables' width
  bool tied = false;
};

/// What a checkpoint calls the projections between tables and hidden states of different widths.
struct ProjectionNames {
  std::string project_in = "model.decoder.project_in";
  std::string project_out = "model.decoder.project_out";
};

class Vocabulary {
 public:
  Vocabulary(const LayerContext& context, VocabularySpec spec);
  Vocabulary(const Vocabulary&) = delete;  // parameters point into it
  Vocabulary& operator=(const Vocabulary&) = delete;
  virtual ~Vocabulary() = default;

  /// The parameters of look-up and head; the same single one for both when tied.
  virtual void declare_embedding(std::vector<Parameter>& parameters);
  virtual void declare_lm_head(std::vector<Parameter>& parameters);

  /// ids [T], each in [0, V) -> y [T, H] float32, the same on every rank.
  virtual void embed(std::span<const int32_t> ids, TensorView y, Arena& arena) const;
  /// x [L, H] float32 -> logits [L, V] float32, on rank 0; other ranks' y is left as it is and may be empty.
  virtual void logits(ConstTensorView x, TensorView y, Arena& arena) const;
  /// Arena bytes that `embed` and `logits` need at most.
  [[nodiscard]] virtual int64_t embed_scratch_bytes(int64_t tokens) const;
  [[nodiscard]] virtual int64_t scratch_bytes(int64_t rows) const;

  [[nodiscard]] const VocabularySpec& spec() const { return spec_; }

 private:
  [[nodiscard]] const StoredMatrix& head() const { return spec_.tied ? embedding_ : lm_head_; }

  [[nodiscard]] bool is_cut() const { return rows_.size() != spec_.vocab_size; }
  [[nodiscard]] bool holds(int32_t id) const { return id >= rows_.begin && id < rows_.end; }
  [[nodiscard]] int64_t embed_own(std::span<const int32_t> ids, int64_t first, TensorView y) const;
  [[nodiscard]] int64_t clear_others(std::span<const int32_t> ids, int64_t first, TensorView y) const;
  /// What rank 0 gathers into.
  struct Gathered {
    std::span<int64_t> sizes;  // bytes of each rank
    TensorView all;            // some rows of logits
  };
  void gather_rows(ConstTensorView own, const Gathered& room, TensorView y) const;

  LayerContext context_;
  VocabularySpec spec_;
  IndexRange rows_;         // of the vocabulary, those of this rank: V below
  StoredMatrix embedding_;  // [V, H]
  StoredMatrix lm_head_;    // [V, H], unused when tied
};

/// Tables of another width E than the hidden states, and a projection at each end (opt-350m).
class ProjectedVocabulary final : public Vocabulary {
 public:
  /// `spec.hidden_size` is E, the tables' width.
  ProjectedVocabulary(const LayerContext& context, VocabularySpec spec, const ProjectionNames& names,
                      int64_t hidden_size);

  void declare_embedding(std::vector<Parameter>& parameters) override;
  void declare_lm_head(std::vector<Parameter>& parameters) override;
  void embed(std::span<const int32_t> ids, TensorView y, Arena& arena) const override;
  void logits(ConstTensorView x, TensorView y, Arena& arena) const override;
  [[nodiscard]] int64_t embed_scratch_bytes(int64_t tokens) const override;
  [[nodiscard]] int64_t scratch_bytes(int64_t rows) const override;

 private:
  Linear project_in_;   // [H, E]
  Linear project_out_;  // [E, H]
};

}  // namespace octet
