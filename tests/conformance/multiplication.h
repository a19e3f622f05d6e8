// SPDX-License-Identifier: Apache-2.0
/// One multiply with all its operands, and the error that float32 may make in it.
#pragma once

#include <optional>
#include <string>

#include "octet/backend/backend.h"
#include "tests/conformance/compare.h"
#include "tests/conformance/matrices.h"

namespace octet::conformance {

/// The left operand of a case.
enum class Left {
  kFloat32,    ///< dense, not rounded
  kBFloat16,   ///< dense, rounded to bfloat16
  kTokenE4M3,  ///< FP8, one scale per token
  kTokenE5M2,
  kGroupE4M3,  ///< FP8, one scale per token and 128 columns
};

struct MultiplyShape {
  int64_t m = 1;
  int64_t n = 1;
  int64_t k = 1;
};

struct MultiplyCase {
  MultiplyShape shape;
  WeightKind weight{DType::kF8E4M3, Scales::kRow};
  Left left = Left::kFloat32;
  std::optional<DType> bias;
  MatrixLayout layout = MatrixLayout::kRowMajor;
  int64_t gap = 0;  ///< between the rows of x and of y

  [[nodiscard]] std::string to_string() const;
};

class Multiplication {
 public:
  /// Random operands. `reference` quantizes the activations where the case wants them in FP8.
  Multiplication(Memory& memory, Backend& reference, const MultiplyCase& what, uint64_t seed);

  [[nodiscard]] Strided& x() { return x_; }
  [[nodiscard]] QuantMatrix& w() { return w_; }

  /// y of all rows.
  [[nodiscard]] Strided run(Backend& backend) const { return run(backend, 0, what_.shape.m); }
  /// y of rows [begin, end) of x alone.
  [[nodiscard]] Strided run(Backend& backend, int64_t begin, int64_t end) const;
  /// How far a float32 result may be from the reference's: [M, N].
  [[nodiscard]] Strided bound(Backend& reference) const;
  /// The same bias as another multiply with as many outputs.
  void take_bias(const Multiplication& other) { bias_ = other.bias_.copy(memory_); }
  /// Quantizes x anew after a change of it; nothing for dense activations.
  void quantize(Backend& reference);

 private:
  [[nodiscard]] Activations activations(int64_t begin, int64_t end) const;
  [[nodiscard]] bool dense() const { return what_.left == Left::kFloat32 || what_.left == Left::kBFloat16; }
  [[nodiscard]] Precision precision() const {
    return what_.left == Left::kBFloat16 ? Precision::kBFloat16 : Precision::kFloat32;
  }
  [[nodiscard]] ConstTensorView bias() const;

  Memory& memory_;
  MultiplyCase what_;
  Strided x_;      // [M, K]
  QuantMatrix q_;  // [M, K], empty for dense activations
  QuantMatrix w_;  // [N, K]
  Strided bias_;   // [1, N]
};

}  // namespace octet::conformance
