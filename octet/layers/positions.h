// SPDX-License-Identifier: Apache-2.0
/// How a model learns where in its sequence a token stands: by rotation of queries and keys, or by a table of
/// vectors that are added to the embedded tokens. Which one is chosen once, when the model is built.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "octet/layers/context.h"
#include "octet/layers/parameter.h"
#include "octet/layers/rotary.h"

namespace octet {

/// Cosines and sines of a step's positions, shared by its layers: [T, R / 2] each; empty without rotation.
/// Queries have their own, because some models lengthen them with the position.
struct RopeAngles {
  ConstTensorView query_cos;
  ConstTensorView query_sin;
  ConstTensorView key_cos;
  ConstTensorView key_sin;
};

class Positions {
 public:
  virtual ~Positions() = default;
  virtual void declare(std::vector<Parameter>& parameters) = 0;
  /// Adds to embedded tokens hidden [T, H] what their positions [T] add.
  virtual void add_to(TensorView hidden, std::span<const int32_t> positions, Arena& arena) const = 0;
  /// The angles of positions [T], in the arena.
  [[nodiscard]] virtual RopeAngles angles(std::span<const int32_t> positions, Arena& arena) const = 0;
  /// Arena bytes that the angles of a step hold, and that `add_to` needs meanwhile.
  [[nodiscard]] virtual int64_t angle_bytes(int64_t tokens) const = 0;
  [[nodiscard]] virtual int64_t scratch_bytes(int64_t tokens) const = 0;
};

/// Rotation.
class RotaryPositions : public Positions {
 public:
  explicit RotaryPositions(const RopeSpec& spec);

  void declare(std::vector<Parameter>& /*parameters*/) final {}
  void add_to(TensorView /*hidden*/, std::span<const int32_t> /*positions*/, Arena& /*arena*/) const final {}
  [[nodiscard]] RopeAngles angles(std::span<const int32_t> positions, Arena& arena) const override;
  [[nodiscard]] int64_t angle_bytes(int64_t tokens) const override;
  [[nodiscard]] int64_t scratch_bytes(int64_t /*tokens*/) const final { return 0; }

 protected:
  [[nodiscard]] const RopeSpec& spec() const { return rotary_.spec(); }

 private:
  RotaryEmbedding rotary_;
};

/// Rotation with queries that grow with the position: q * (1 + beta * ln(1 + floor(position / original))), as
/// Llama 4 and Ministral 3 temper their attention. Every column of a head must be rotated, as the factor
/// travels with cosine and sine.
class TemperedRotaryPositions final : public RotaryPositions {
 public:
  explicit TemperedRotaryPositions(const RopeSpec& spec);

  [[nodiscard]] RopeAngles angles(std::span<const int32_t> positions, Arena& arena) const override;
  [[nodiscard]] int64_t angle_bytes(int64_t tokens) const override;
};

struct LearnedPositionsSpec {
  std::string name;       ///< "model.decoder.embed_positions"
  int64_t positions = 0;  ///< what the model can tell apart
  int64_t offset = 0;     ///< the row of position 0 (OPT: 2)
  int64_t hidden_size = 0;
};

/// A table of vectors, never quantized.
class LearnedPositions final : public Positions {
 public:
  LearnedPositions(const LayerContext& context, const LearnedPositionsSpec& spec);
  LearnedPositions(const LearnedPositions&) = delete;  // parameters point into it
  LearnedPositions& operator=(const LearnedPositions&) = delete;

  void declare(std::vector<Parameter>& parameters) override;
  void add_to(TensorView hidden, std::span<const int32_t> positions, Arena& arena) const override;
  [[nodiscard]] RopeAngles angles(std::span<const int32_t> /*positions*/, Arena& /*arena*/) const override {
    return {};
  }
  [[nodiscard]] int64_t angle_bytes(int64_t /*tokens*/) const override { return 0; }
  [[nodiscard]] int64_t scratch_bytes(int64_t tokens) const override;

 private:
  LayerContext context_;
  LearnedPositionsSpec spec_;
  StoredMatrix table_;  // [offset + positions, H]
};

}  // namespace octet
