// SPDX-License-Identifier: Apache-2.0
/// Weights and quantized activations to multiply with.
#pragma once

#include <array>
#include <string>

#include "octet/core/quant_matrix.h"
#include "tests/conformance/strided.h"

namespace octet::conformance {

inline constexpr std::array kFp8 = {DType::kF8E4M3, DType::kF8E5M2};
inline constexpr std::array kLayouts = {MatrixLayout::kRowMajor, MatrixLayout::kLanes64};

enum class Scales {
  kNone,
  kRow,
  kGrid,   ///< one grid of 128 x 128, ragged at the edges
  kParts,  ///< merged parts of odd numbers of rows, one beginning inside a row block, one inside a column
           ///< block
  kFine,   ///< one grid of 64 x 16: more blocks of columns than a kernel goes over at a time
  kCoarse  ///< one grid of 128 x 320: blocks wider than what it goes over at a time
};

struct WeightKind {
  DType dtype;
  Scales scales;
};

/// Every pair that a checkpoint can lead to: only FP8 has scales.
inline constexpr std::array<WeightKind, 11> kWeightKinds = {{
    {DType::kF8E4M3, Scales::kNone},
    {DType::kF8E4M3, Scales::kRow},
    {DType::kF8E4M3, Scales::kGrid},
    {DType::kF8E4M3, Scales::kParts},
    {DType::kF8E5M2, Scales::kNone},
    {DType::kF8E5M2, Scales::kRow},
    {DType::kF8E5M2, Scales::kGrid},
    {DType::kF8E5M2, Scales::kParts},
    {DType::kBF16, Scales::kNone},
    {DType::kF16, Scales::kNone},
    {DType::kF32, Scales::kNone},
}};

[[nodiscard]] std::string to_string(const WeightKind& kind);

/// Rows, columns and layout of a matrix of that kind.
[[nodiscard]] MatrixSpec weight_spec(const WeightKind& kind, int64_t rows, int64_t cols, MatrixLayout layout);
/// Row-major FP8 activations: one scale per row (group = 0) or per run of `group` columns.
[[nodiscard]] MatrixSpec activation_spec(DType dtype, int64_t rows, int64_t cols, int64_t group);

[[nodiscard]] QuantMatrix make_matrix(Memory& memory, MatrixSpec spec);
/// The same elements and scales in memory of their own.
[[nodiscard]] QuantMatrix copy_matrix(Memory& memory, const QuantMatrix& from);
/// |elements| and |scales|: what an error bound is made of.
[[nodiscard]] QuantMatrix absolute(Memory& memory, const QuantMatrix& from);

/// Finite elements: for FP8 any code with equal chance, subnormals included; else bell-shaped. Scales in
/// [1/64, 1/16).
void randomize(const QuantMatrix& matrix, Random& random);
/// The elements of `from`, whatever its layout, into `into`, whose dtype and shape are the same; and the
/// scales.
void copy_elements(const QuantMatrix& from, const QuantMatrix& into);

}  // namespace octet::conformance
