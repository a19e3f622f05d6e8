// SPDX-License-Identifier: Apache-2.0
#include "octet/layers/positions.h"

#include <cmath>

namespace octet {
namespace {

Shape angle_shape(std::span<const int32_t> positions, const RopeSpec& spec) {
  return {static_cast<int64_t>(positions.size()), spec.rotary_dim / 2};
}

}  // namespace

RotaryPositions::RotaryPositions(const RopeSpec& spec) : rotary_(spec) {}

RopeAngles RotaryPositions::angles(std::span<const int32_t> positions, Arena& arena) const {
  const TensorView cos = arena.tensor(DType::kF32, angle_shape(positions, rotary_.spec()));
  const TensorView sin = arena.tensor(DType::kF32, angle_shape(positions, rotary_.spec()));
  rotary_.angles(positions, cos, sin);
  return {.query_cos = cos, .query_sin = sin, .key_cos = cos, .key_sin = sin};
}

int64_t RotaryPositions::angle_bytes(int64_t tokens) const {
  return tokens * rotary_.spec().rotary_dim * kFloatBytes + 2 * kAlignmentSlack;
}

TemperedRotaryPositions::TemperedRotaryPositions(const RopeSpec& spec) : RotaryPositions(spec) {
  check(spec.temperature_original > 0, "the growth of queries is counted in whole runs of positions");
}

RopeAngles TemperedRotaryPositions::angles(std::span<const int32_t> positions, Arena& arena) const {
  RopeAngles angles = RotaryPositions::angles(positions, arena);
  const Shape shape = angle_shape(positions, spec());
  const TensorView cos = arena.tensor(DType::kF32, shape);
  const TensorView sin = arena.tensor(DType::kF32, shape);
  for (size_t t = 0; t < positions.size(); ++t) {
    const int64_t runs = positions[t] / spec().temperature_original;
    const auto growth =
        static_cast<float>(1.0 + spec().temperature_beta * std::log1p(static_cast<double>(runs)));
    const auto row = static_cast<int64_t>(t);
    for (int64_t pair = 0; pair < shape[1]; ++pair) {
      cos.row<float>(row)[pair] = angles.key_cos.row<float>(row)[pair] * growth;
      sin.row<float>(row)[pair] = angles.key_sin.row<float>(row)[pair] * growth;
    }
  }
  angles.query_cos = cos;
  angles.query_sin = sin;
  return angles;
}

int64_t TemperedRotaryPositions::angle_bytes(int64_t tokens) const {
  return 2 * RotaryPositions::angle_bytes(tokens);
}

LearnedPositions::LearnedPositions(const LayerContext& context, const LearnedPositionsSpec& spec)
    : context_(context), spec_(spec) {
  table_.name = spec.name;
  table_.rows = spec.offset + spec.positions;
  table_.cols = spec.hidden_size;
  table_.member_rows = {table_.rows};
  table_.rule = context.quant_spec.rule(spec.name, WeightRole::kExcluded);
  table_.lookup_only = true;
}

void LearnedPositions::declare(std::vector<Parameter>& parameters) {
  parameters.push_back({.name = spec_.name + ".weight",
                        .shape = Shape{table_.rows, table_.cols},
                        .destination = &table_,
                        .offset = 0,
                        .required = true,
                        .twin = {}});
}

void LearnedPositions::add_to(TensorView hidden, std::span<const int32_t> positions, Arena& arena) const {
  const ArenaScope scope(arena);
  auto* rows = reinterpret_cast<int32_t*>(
      arena.take(static_cast<int64_t>(positions.size() * sizeof(int32_t))));  // [T]
  for (size_t t = 0; t < positions.size(); ++t) {
    rows[t] = positions[t] + static_cast<int32_t>(spec_.offset);
  }
  const TensorView vectors = arena.tensor(DType::kF32, hidden.shape());
  context_.backend.embed({rows, positions.size()}, table_.matrix.view(), vectors);
  context_.backend.add(vectors, hidden);
}

int64_t LearnedPositions::scratch_bytes(int64_t tokens) const {
  return tokens * (spec_.hidden_size + 1) * kFloatBytes + 2 * kAlignmentSlack;
}

}  // namespace octet
