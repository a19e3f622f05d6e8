// SPDX-License-Identifier: Apache-2.0
#include "octet/loading/dummy_weights.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/loading/memory_source.h"

namespace octet {
namespace {

std::vector<float> read(const DummyWeights& weights, size_t index, int64_t begin, int64_t end) {
  const SourceTensor& tensor = weights.tensors()[index];
  std::vector<std::byte> bytes(static_cast<size_t>((end - begin) * tensor.bytes() / tensor.rows()));
  weights.read_rows(tensor, begin, end, bytes);
  return floats_of(tensor.dtype, bytes);
}

TEST(DummyWeights, HasEveryRequiredParameterOnce) {
  TestModel model;
  model.matrix({{"a.weight", 3}}, 5, {});
  model.vector({{"a.bias", 3}});
  model.parameters.push_back(model.parameters[0]);
  model.parameters[1].required = false;
  const DummyWeights weights(model.parameters, DType::kF16);
  ASSERT_EQ(weights.tensors().size(), 1U);
  EXPECT_EQ(weights.tensors()[0].name, "a.weight");
  EXPECT_EQ(weights.tensors()[0].dtype, DType::kF16);
  EXPECT_EQ(weights.tensors()[0].shape, (std::vector<int64_t>{3, 5}));
}

TEST(DummyWeights, AValueDependsOnItsNameAndPlaceOnly) {
  TestModel model;
  model.matrix({{"a.weight", 50}}, 7, {});
  model.matrix({{"b.weight", 50}}, 7, {});
  const DummyWeights weights(model.parameters, DType::kBF16);
  const auto whole = read(weights, 0, 0, 50);
  for (int64_t row = 0; row < 50; ++row) {
    const auto one = read(weights, 0, row, row + 1);
    EXPECT_TRUE(std::equal(one.begin(), one.end(), whole.begin() + row * 7));
  }
  EXPECT_NE(read(weights, 1, 0, 50), whole);
  TestModel alone;
  alone.matrix({{"b.weight", 50}}, 7, {});
  EXPECT_EQ(read(DummyWeights(alone.parameters, DType::kBF16), 0, 0, 50), read(weights, 1, 0, 50));
}

TEST(DummyWeights, ValuesAreNearNormalAndNormsNearOne) {
  TestModel model;
  model.matrix({{"a.weight", 200}}, 200, {});
  model.vector({{"input_layernorm.weight", 10000}});
  const DummyWeights weights(model.parameters, DType::kF32);
  const auto moments = [](const std::vector<float>& values) {
    double sum = 0;
    double squares = 0;
    for (const float v : values) sum += v;
    const double mean = sum / static_cast<double>(values.size());
    for (const float v : values) squares += (v - mean) * (v - mean);
    return std::pair(mean, std::sqrt(squares / static_cast<double>(values.size())));
  };
  const auto [mean, deviation] = moments(read(weights, 0, 0, 200));
  EXPECT_NEAR(mean, 0.0, 0.0005);
  EXPECT_NEAR(deviation, 0.02, 0.0005);
  const auto [norm_mean, norm_deviation] = moments(read(weights, 1, 0, 10000));
  EXPECT_NEAR(norm_mean, 1.0, 0.001);
  EXPECT_NEAR(norm_deviation, 0.02, 0.001);
}

}  // namespace
}  // namespace octet
