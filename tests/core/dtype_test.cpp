// SPDX-License-Identifier: Apache-2.0
#include "octet/core/dtype.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>
#include <vector>

namespace octet {
namespace {

std::vector<DType> all_types() {
  std::vector<DType> types;
  for (int i = 0; i <= static_cast<int>(DType::kC64); ++i) types.push_back(static_cast<DType>(i));
  return types;
}

TEST(DType, NamesGoBothWaysAndDiffer) {
  std::set<std::string_view> names;
  for (const DType type : all_types()) {
    EXPECT_EQ(parse_dtype(to_string(type)), type);
    names.insert(to_string(type));
    names.insert(torch_name(type));
  }
  EXPECT_EQ(names.size(), 2 * all_types().size());
  EXPECT_EQ(parse_dtype("F8"), std::nullopt);
  EXPECT_EQ(parse_dtype("f32"), std::nullopt);
  EXPECT_EQ(parse_dtype(""), std::nullopt);
}

TEST(DType, HasTheNamesThatFilesAndConfigsUse) {
  EXPECT_EQ(to_string(DType::kF8E4M3), "F8_E4M3");
  EXPECT_EQ(to_string(DType::kBF16), "BF16");
  EXPECT_EQ(torch_name(DType::kF8E4M3), "float8_e4m3fn");
  EXPECT_EQ(torch_name(DType::kBF16), "bfloat16");
}

TEST(DType, HasSizesAndRefusesThatOfPackedTypes) {
  EXPECT_EQ(dtype_size(DType::kF64), 8);
  EXPECT_EQ(dtype_size(DType::kBF16), 2);
  EXPECT_EQ(dtype_size(DType::kF8E5M2), 1);
  EXPECT_EQ(dtype_bits(DType::kF4), 4);
  EXPECT_EQ(dtype_bits(DType::kF6E2M3), 6);
  EXPECT_THROW((void)dtype_size(DType::kF4), ArgumentError);
  EXPECT_THROW((void)dtype_size(DType::kF6E3M2), ArgumentError);
}

TEST(DType, KnowsTheLargestFiniteValues) {
  EXPECT_EQ(max_finite(DType::kF32), std::numeric_limits<float>::max());
  EXPECT_EQ(max_finite(DType::kBF16), to_float(bfloat16{0x7f7f}));
  EXPECT_EQ(max_finite(DType::kF16), to_float(float16{0x7bff}));
  EXPECT_EQ(max_finite(DType::kF8E4M3), to_float(float8_e4m3{0x7e}));
  EXPECT_EQ(max_finite(DType::kF8E5M2), to_float(float8_e5m2{0x7b}));
  EXPECT_THROW((void)max_finite(DType::kI8), ArgumentError);
}

TEST(DType, VisitsEachFloatTypeWithItsOwnCodec) {
  for (const DType type : {DType::kF32, DType::kBF16, DType::kF16, DType::kF8E4M3, DType::kF8E5M2}) {
    const int64_t size = visit_float(type, []<class T>() {
      EXPECT_EQ(to_float(from_float<T>(1.5F)), 1.5F);
      return static_cast<int64_t>(sizeof(T));
    });
    EXPECT_EQ(size, dtype_size(type));
  }
  EXPECT_THROW(visit_float(DType::kI64, []<class T>() {}), ArgumentError);
}

TEST(DType, SaysWhichConversionsLoseNothing) {
  EXPECT_TRUE(widens_exactly(DType::kBF16, DType::kF32));
  EXPECT_TRUE(widens_exactly(DType::kF8E4M3, DType::kBF16));
  EXPECT_TRUE(widens_exactly(DType::kF8E5M2, DType::kF16));
  EXPECT_TRUE(widens_exactly(DType::kF16, DType::kF16));
  EXPECT_FALSE(widens_exactly(DType::kF16, DType::kBF16));
  EXPECT_FALSE(widens_exactly(DType::kBF16, DType::kF16));
  EXPECT_FALSE(widens_exactly(DType::kF32, DType::kBF16));
  EXPECT_FALSE(widens_exactly(DType::kF8E4M3, DType::kF8E5M2));
  EXPECT_FALSE(widens_exactly(DType::kI32, DType::kF32));
}

TEST(DType, WidensEveryFp8CodeExactly) {
  for (uint32_t code = 0; code < 256; ++code) {
    for (const float value : {to_float(float8_e4m3{static_cast<uint8_t>(code)}),
                              to_float(float8_e5m2{static_cast<uint8_t>(code)})}) {
      if (std::isnan(value)) continue;
      EXPECT_EQ(to_float(to_bfloat16(value)), value) << code;
      EXPECT_EQ(to_float(to_float16(value)), value) << code;
    }
  }
}

}  // namespace
}  // namespace octet
