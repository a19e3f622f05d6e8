// SPDX-License-Identifier: Apache-2.0
/// The kernels without subnormal operands give the bits of those that have them, whichever a machine prefers.
#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "octet/backend/cpu/choose_kernels.h"
#include "octet/backend/cpu/cpu_backend.h"
#include "octet/backend/reference/reference_backend.h"
#include "tests/conformance/compare.h"
#include "tests/conformance/matrices.h"
#include "tests/conformance/multiplication.h"

namespace octet::conformance {
namespace {

class Subnormals : public testing::TestWithParam<CpuIsa> {
 protected:
  Memory memory_;
  CpuBackend with_{2, GetParam(), kernels_for(GetParam()), memory_.ledger};
  CpuBackend without_{2, GetParam(), without_subnormals(kernels_for(GetParam())), memory_.ledger};
};

/// Row r has code r in all columns.
QuantMatrix matrix_of_codes(Memory& memory, DType dtype, int64_t cols) {
  QuantMatrix w = make_matrix(memory, weight_spec({dtype, Scales::kNone}, 256, cols, MatrixLayout::kLanes64));
  for (int64_t r = 0; r < 256; ++r) {
    for (int64_t c = 0; c < cols; ++c) *w.view().element(r, c) = static_cast<std::byte>(r);
  }
  return w;
}

TEST_P(Subnormals, ValuesOfAllCodesAreExact) {
  ReferenceBackend reference(memory_.ledger);
  for (const DType dtype : kFp8) {
    SCOPED_TRACE(to_string(dtype));
    constexpr int64_t kWidth = 7;  // each place in a lane
    const QuantMatrix w = matrix_of_codes(memory_, dtype, kWidth);
    for (const int64_t tokens : {kWidth, 4 * kWidth}) {  // widened in registers, and ahead
      Strided x(memory_, tokens, kWidth);
      for (int64_t t = 0; t < tokens; ++t) x.set(t, t % kWidth, 0.5F);
      const Activations dense = {.dense = x.view(), .precision = Precision::kFloat32, .quantized = {}};
      const auto multiplied = [&](Backend& backend) {
        Strided y(memory_, tokens, 256);
        backend.gemm(dense, w.view(), {}, y.view());
        return y;
      };
      const Strided expected = multiplied(reference);
      expect_equal(expected, multiplied(with_));
      expect_equal(expected, multiplied(without_));
    }
  }
}

TEST_P(Subnormals, MultiplyGivesTheSameBits) {
  ReferenceBackend reference(memory_.ledger);
  for (const DType dtype : kFp8) {
    for (const Scales scales : {Scales::kRow, Scales::kGrid}) {
      for (const int64_t tokens : {1, 2, 5, 33}) {
        const MultiplyCase what{.shape = {.m = tokens, .n = 150, .k = 301},
                                .weight = {dtype, scales},
                                .left = Left::kFloat32,
                                .bias = DType::kBF16,
                                .layout = MatrixLayout::kLanes64,
                                .gap = 0};
        SCOPED_TRACE(what.to_string());
        const Multiplication multiplication(memory_, reference, what, 21);
        expect_same_bits(multiplication.run(with_), multiplication.run(without_));
      }
    }
  }
}

TEST_P(Subnormals, TransposedMultiplyGivesTheSameBits) {
  Random random(22);
  for (const DType dtype : kFp8) {
    SCOPED_TRACE(to_string(dtype));
    QuantMatrix w = make_matrix(memory_, weight_spec({dtype, Scales::kRow}, 192, 70, MatrixLayout::kLanes64));
    randomize(w, random);
    const HeadMatrix heads = {
        .w = w.view(), .heads = 2, .stride = 96, .first = 3, .count = 90, .x_stride = 90, .y_stride = 70};
    Strided x(memory_, 3, 180);
    x.randomize(random);
    const auto multiplied = [&](Backend& backend) {
      Strided y(memory_, 3, 140);
      backend.gemm_heads_transposed(x.view(), Precision::kFloat32, heads, y.view());
      return y;
    };
    expect_same_bits(multiplied(with_), multiplied(without_));
  }
}

/// One sequence over a cache of finite codes, each as likely as any other.
class RandomCache {
 public:
  RandomCache(DType dtype, int64_t head_dim, Random& random)
      : dtype_(dtype), head_dim_(head_dim), keys_(bytes()), values_(bytes()), scales_(kSlots) {
    const uint64_t largest = dtype == DType::kF8E4M3 ? 0x7e : 0x7b;
    for (std::vector<std::byte>* codes : {&keys_, &values_}) {
      for (std::byte& code : *codes) {
        const uint64_t drawn = random.next();
        code = static_cast<std::byte>((drawn >> 8) % (largest + 1) | (drawn & 0x80));
      }
    }
    for (float& scale : scales_) scale = random.uniform(0x1p-12F, 0x1p-10F);
  }

  [[nodiscard]] Strided attend(Backend& backend, Memory& memory, const Strided& q) {
    const std::array<int32_t, 2> starts = {0, static_cast<int32_t>(q.rows())};
    const std::array<int32_t, 1> lengths = {kSlots - 3};
    std::vector<int32_t> table;
    for (int32_t b = 0; b < kSlots / kBlock; ++b) table.push_back(kSlots / kBlock - 1 - b);
    Strided y(memory, q.rows(), q.cols());
    const KvView cache = {.keys = keys_.data(),
                          .values = values_.data(),
                          .key_scales = scales_.data(),
                          .value_scales = scales_.data(),
                          .dtype = dtype_,
                          .block_size = kBlock,
                          .heads = 1,
                          .head_dim = head_dim_};
    backend.attention(q.view(), cache,
                      {.sequence_starts = starts,
                       .context_lengths = lengths,
                       .block_tables = table,
                       .max_blocks = static_cast<int64_t>(table.size())},
                      {.query_heads = q.cols() / head_dim_, .scale = 0x1p-6F}, y.view());
    return y;
  }

 private:
  static constexpr int32_t kBlock = 16;
  static constexpr int32_t kSlots = 10 * kBlock;
  [[nodiscard]] size_t bytes() const { return static_cast<size_t>(kSlots * head_dim_); }

  DType dtype_;
  int64_t head_dim_;
  std::vector<std::byte> keys_;
  std::vector<std::byte> values_;
  std::vector<float> scales_;
};

TEST_P(Subnormals, AttentionGivesTheSameBits) {
  Random random(23);
  for (const DType dtype : kFp8) {
    for (const int64_t head_dim : {128, 80, 37}) {
      for (const int64_t rows : {1, 3, 20}) {
        SCOPED_TRACE(std::string(to_string(dtype)) + ", heads of " + std::to_string(head_dim) + ", " +
                     std::to_string(rows) + " rows");
        RandomCache cache(dtype, head_dim, random);
        Strided q(memory_, rows, 4 * head_dim);
        q.randomize(random);
        expect_same_bits(cache.attend(with_, memory_, q), cache.attend(without_, memory_, q));
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Isas, Subnormals, testing::ValuesIn(supported_isas()),
                         [](const auto& param) { return std::string(to_string(param.param)); });

}  // namespace
}  // namespace octet::conformance
