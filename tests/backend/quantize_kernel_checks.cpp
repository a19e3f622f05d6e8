// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "octet/core/quant_matrix.h"
#include "tests/backend/ops_kernel_checks.h"

namespace octet::test {
namespace {

constexpr std::array kQuotients = {QuotientKind::kRaw, QuotientKind::kDivide, QuotientKind::kReciprocal,
                                   QuotientKind::kDivideRounded};
constexpr std::array kFormats = {DType::kF8E4M3, DType::kF8E5M2};

float decode(uint8_t code, DType format) {
  return format == DType::kF8E4M3 ? to_float(float8_e4m3{code}) : to_float(float8_e5m2{code});
}

/// The definition, in scalars.
template <class T>
float quotient_of(float x, float scale, QuotientKind kind) {
  switch (kind) {
    case QuotientKind::kRaw:
      return x;
    case QuotientKind::kDivide:
      return x / scale;
    case QuotientKind::kReciprocal:
      return x * (1.0F / scale);
    case QuotientKind::kDivideRounded:
      return to_float(from_float<T>(x / scale));
  }
  return x;
}

uint8_t code_of(float quotient, DType format, bool nan_saturates) {
  if (std::isnan(quotient) && nan_saturates) quotient = max_finite(format);
  return format == DType::kF8E4M3 ? to_float8_e4m3(quotient).bits : to_float8_e5m2(quotient).bits;
}

/// One run against the definition; the sums as far as QuantizeStats promises.
template <class T>
void expect_run(const QuantizeKernels& kernels, const QuantizeKind& kind, std::span<const T> x, float scale) {
  std::vector<std::byte> codes(x.size());
  MantissaTable table;
  QuantizeSums sums;
  QuantizeRun run = {.x = reinterpret_cast<const std::byte*>(x.data()),
                     .count = static_cast<int64_t>(x.size()),
                     .scale = scale,
                     .codes = codes.data()};
  kernels.quantize(kind, run, table, &sums);
  std::vector<std::byte> uncounted(x.size());
  run.codes = uncounted.data();
  kernels.quantize(kind, run, table, nullptr);
  EXPECT_EQ(codes, uncounted) << "codes depend on whether they are counted, scale " << scale;
  QuantizeSums expected;
  int64_t wrong = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const float value = to_float(x[i]);
    const float quotient = quotient_of<T>(value, scale, kind.quotient);
    const uint8_t code = code_of(quotient, kind.to, kind.nan_saturates);
    if (code != static_cast<uint8_t>(codes[i]) && ++wrong < 4) {
      ADD_FAILURE() << value << " by " << scale << ": " << int{code} << ", not "
                    << static_cast<int>(codes[i]);
    }
    expected.zeroed += value != 0.0F && decode(code, kind.to) == 0.0F ? 1 : 0;
    expected.saturated += std::fabs(quotient) > max_finite(kind.to) ? 1 : 0;
    if (!std::isfinite(value)) continue;
    const double error =
        static_cast<double>(value) - static_cast<double>(scale) * static_cast<double>(decode(code, kind.to));
    expected.signal += static_cast<double>(value) * static_cast<double>(value);
    expected.noise += error * error;
  }
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(sums.zeroed, expected.zeroed);
  EXPECT_EQ(sums.saturated, expected.saturated);
  if (std::isnan(expected.noise)) return;
  EXPECT_NEAR(sums.signal, expected.signal, 1e-6 * expected.signal);
  EXPECT_NEAR(sums.noise, expected.noise, 1e-6 * expected.noise);
}

template <class T>
std::vector<T> random_row(std::mt19937& random, size_t count) {
  std::normal_distribution<float> normal(0.0F, 0.02F);
  std::vector<T> row(count);
  for (T& value : row) value = from_float<T>(normal(random));
  return row;
}

template <class T>
void expect_random_rows(const QuantizeKernels& kernels, DType from, std::mt19937& random) {
  for (int round = 0; round < 150; ++round) {
    const std::vector<T> row = random_row<T>(random, 1 + random() % 400);
    const float shrink = 0.5F + static_cast<float>(random() % 1000) / 1000.0F;
    for (const DType to : kFormats) {
      for (const QuotientKind quotient : kQuotients) {
        const float scale = quotient == QuotientKind::kRaw ? 1.0F : 0.08F / max_finite(to) * shrink;
        expect_run<T>(kernels, {from, to, quotient, random() % 2 == 0}, row, scale);
      }
    }
  }
}

}  // namespace

void expect_exact_codes_of_every_bfloat16(const QuantizeKernels& kernels) {
  std::vector<bfloat16> all;
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const bool signalling = (bits & 0x7fffU) > 0x7f80U && (bits & 0x40U) == 0;
    all.push_back({static_cast<uint16_t>(signalling ? bits | 0x40U : bits)});
  }
  // An ordinary one, two on the edges of a binade, the two ends of the table's range, and those for which it
  // cannot serve.
  const std::array scales = {0.0123F,  1.0F,   0x1.fep-7F,
                             0x1p-40F, 0x1p6F, 3e-39F,
                             1e30F,    0.0F,   std::numeric_limits<float>::infinity()};
  for (const float scale : scales) {
    for (const DType to : kFormats) {
      for (const QuotientKind quotient : kQuotients) {
        SCOPED_TRACE("scale " + std::to_string(scale) + ", quotient " +
                     std::to_string(static_cast<int>(quotient)));
        expect_run<bfloat16>(kernels, {DType::kBF16, to, quotient, scale < 1.0F}, all,
                             quotient == QuotientKind::kRaw ? 1.0F : scale);
      }
    }
  }
}

void expect_exact_codes_of_random_rows(const QuantizeKernels& kernels) {
  std::mt19937 random(1);
  expect_random_rows<bfloat16>(kernels, DType::kBF16, random);
  expect_random_rows<float16>(kernels, DType::kF16, random);
  expect_random_rows<float>(kernels, DType::kF32, random);
}

void expect_exact_conversions(const QuantizeKernels& kernels) {
  std::mt19937 random(2);
  std::vector<float> values(1003);
  for (float& value : values) value = std::bit_cast<float>(static_cast<uint32_t>(random()));
  values[0] = 65519.99F;
  values[1] = 0x1.8p-25F;
  const auto* bytes = reinterpret_cast<const std::byte*>(values.data());
  std::vector<uint16_t> halves(values.size());
  std::vector<uint16_t> bfloats(values.size());
  const auto count = static_cast<int64_t>(values.size());
  kernels.convert(DType::kF32, bytes, count, DType::kF16, reinterpret_cast<std::byte*>(halves.data()));
  kernels.convert(DType::kF32, bytes, count, DType::kBF16, reinterpret_cast<std::byte*>(bfloats.data()));
  for (size_t i = 0; i < values.size(); ++i) {
    EXPECT_EQ(halves[i], to_float16(values[i]).bits) << values[i];
    EXPECT_EQ(bfloats[i], to_bfloat16(values[i]).bits) << values[i];
  }
  std::vector<uint8_t> codes(256);
  for (size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<uint8_t>(i);
  std::vector<float> wide(codes.size());
  for (const DType format : kFormats) {
    kernels.widen(format, reinterpret_cast<const std::byte*>(codes.data()), 256, 1.0F, wide.data());
    for (size_t i = 0; i < codes.size(); ++i) {
      EXPECT_EQ(std::bit_cast<uint32_t>(wide[i]), std::bit_cast<uint32_t>(decode(codes[i], format))) << i;
    }
  }
}

void expect_lanes_as_declared(const QuantizeKernels& kernels) {
  constexpr int64_t kWords = 23;
  constexpr int64_t kStride = 4 * kWords + 12;
  std::vector<std::byte> rows(kPanelRows * kStride);
  std::mt19937 random(3);
  for (std::byte& byte : rows) byte = static_cast<std::byte>(random());
  for (const auto& [first, count] : {std::pair<int64_t, int64_t>{0, 64}, {5, 1}, {3, 6}, {60, 4}, {17, 31}}) {
    std::vector<std::byte> panel(256 * kWords);
    const LaneBlock block = {.rows = rows.data(),
                             .row_stride = kStride,
                             .row_count = count,
                             .words = kWords,
                             .lanes = panel.data() + 4 * first};
    kernels.to_lanes(block);
    kernels.end_of_lanes();
    for (int64_t r = 0; r < count; ++r) {
      for (int64_t c = 0; c < 4 * kWords; ++c) {
        const int64_t at = element_offset(MatrixLayout::kLanes64, DType::kF8E4M3, 4 * kWords, first + r, c);
        ASSERT_EQ(panel[static_cast<size_t>(at)], rows[static_cast<size_t>(r * kStride + c)])
            << first + r << ", " << c;
      }
    }
    std::vector<std::byte> back(rows.size());
    kernels.from_lanes({.rows = back.data(),
                        .row_stride = kStride,
                        .row_count = count,
                        .words = kWords,
                        .lanes = panel.data() + 4 * first});
    for (int64_t r = 0; r < count; ++r) {
      EXPECT_EQ(std::memcmp(back.data() + r * kStride, rows.data() + r * kStride, 4 * kWords), 0) << r;
    }
  }
}

void expect_abs_max_past_nan(const QuantizeKernels& kernels) {
  std::mt19937 random(4);
  for (const size_t count : {1, 7, 33, 100}) {
    std::vector<bfloat16> row = random_row<bfloat16>(random, count);
    float expected = 0;
    for (const bfloat16 value : row) expected = std::max(expected, std::fabs(to_float(value)));
    const auto* x = reinterpret_cast<const std::byte*>(row.data());
    EXPECT_EQ(kernels.abs_max(DType::kBF16, x, static_cast<int64_t>(count)).value, expected);
    row[count / 2] = to_bfloat16(std::numeric_limits<float>::quiet_NaN());
    row[count - 1] = count > 1 ? to_bfloat16(-std::numeric_limits<float>::infinity()) : row[0];
    const AbsMax found = kernels.abs_max(DType::kBF16, x, static_cast<int64_t>(count));
    EXPECT_EQ(found.not_finite, count > 1 ? 2 : 1);
    EXPECT_EQ(found.value, count > 1 ? std::numeric_limits<float>::infinity() : 0.0F);
  }
}

}  // namespace octet::test
