// SPDX-License-Identifier: Apache-2.0
#include "octet/layers/fp8_linear.h"

#include "tests/layers/fp8_linear_rig.h"

namespace octet {
namespace {

using testing::HasSubstr;

using Fp8LinearTest = Fp8LinearRig;

TEST_F(Fp8LinearTest, KeepQuantizesAgainWhenTheWeightChanges) {
  const auto dense = linear();
  Fp8Linear wrapped(dense, {.storage = Fp8SourceStorage::kKeep});
  EXPECT_EQ(wrapped.linear(), dense);
  run(wrapped);
  const auto first = wrapped.fp8_weight();
  run(wrapped);
  EXPECT_EQ(wrapped.fp8_weight(), first);
  dense->set_weight(weight(6, 8, DType::kBF16, 0.5F));
  expect_near(run(wrapped), run(*dense));
  const auto second = wrapped.fp8_weight();
  EXPECT_NE(second, first);
  dense->weight()->version += 1;
  run(wrapped);
  EXPECT_NE(wrapped.fp8_weight(), second);
  const auto third = wrapped.fp8_weight();
  wrapped.invalidate_weight_cache();
  run(wrapped);
  EXPECT_NE(wrapped.fp8_weight(), third);
}

TEST_F(Fp8LinearTest, DiscardDropsTheSourceAtTheFirstMaterialization) {
  auto dense = linear();
  const std::weak_ptr<SourceWeight> source = dense->weight();
  Fp8Linear wrapped(dense, {.materialize_on_wrap = false});
  dense.reset();
  EXPECT_FALSE(wrapped.materialized());
  EXPECT_FALSE(source.expired());
  run(wrapped);
  EXPECT_TRUE(source.expired());
  wrapped.invalidate_weight_cache();
  EXPECT_THAT(error_of([&] { run(wrapped); }), HasSubstr("choose kOffload or kKeep"));
}

TEST_F(Fp8LinearTest, OffloadHoldsABfloat16CopyFromWhichItQuantizesAgain) {
  const auto dense = std::make_shared<DenseLinear>(*backend_, weight(6, 8, DType::kF32));
  Fp8Linear wrapped(dense, {.storage = Fp8SourceStorage::kOffload});
  EXPECT_EQ(wrapped.weight_bytes(), wrapped.fp8_weight()->bytes() + 6 * 8 * 2);
  const auto before = run(wrapped);
  wrapped.invalidate_weight_cache();
  EXPECT_EQ(run(wrapped), before);
}

TEST_F(Fp8LinearTest, ElsewhereAndWithoutCastsTheSourceWeightIsUsed) {
  const auto dense = linear();
  const auto expected = run(*dense);
  Fp8Linear elsewhere(dense, {.devices = {"cuda"}});
  EXPECT_FALSE(elsewhere.materialized());
  EXPECT_EQ(run(elsewhere), expected);
  EXPECT_THAT(error_of([&] { elsewhere.materialize_fp8_weight(); }), HasSubstr("do not name \"cpu\""));
  Fp8Linear uncast(dense, {.cast_inputs = false, .storage = Fp8SourceStorage::kKeep});
  EXPECT_EQ(run(uncast), expected);
}

TEST_F(Fp8LinearTest, RowsMayBeNoneAndTypesMayBe16Bits) {
  Fp8Linear wrapped(linear(), {});
  EXPECT_TRUE(run(wrapped, 0).empty());
  const Tensor x = tensor(DType::kBF16, Shape{3, 8});
  Tensor y = tensor(DType::kF16, Shape{3, 6});
  Tensor wide_x = tensor(DType::kF32, Shape{3, 8});
  Tensor wide_y = tensor(DType::kF32, Shape{3, 6});
  wrapped.forward(x.view(), y.view());
  wrapped.forward(wide_x.view(), wide_y.view());
  for (int64_t i = 0; i < 18; ++i) {
    const auto* half = y.view().row<float16>(0) + i;
    EXPECT_NEAR(to_float(*half), wide_y.view().row<float>(0)[i],
                0.01F * std::abs(wide_y.view().row<float>(0)[i]) + 0.01F);
  }
}

TEST_F(Fp8LinearTest, BadInputIsRefused) {
  EXPECT_THAT(error_of([] { Fp8GemmOptions{.cast_inputs = false}.validate(); }),
              HasSubstr("kOffload or kKeep"));
  EXPECT_THAT(error_of([] { Fp8GemmOptions{.storage = static_cast<Fp8SourceStorage>(7)}.validate(); }),
              HasSubstr("expected kKeep, kOffload or kDiscard as storage, found the number 7"));
  EXPECT_THAT(error_of([] { Fp8GemmOptions{.weight_scale = static_cast<Fp8WeightScale>(3)}.validate(); }),
              HasSubstr("expected kTensor or kChannel"));
  EXPECT_THAT(error_of([&] { Fp8Linear(nullptr, {}); }), HasSubstr("found none"));
  Fp8Linear wrapped(linear(), {});
  std::vector<float> x(14);
  std::vector<float> y(12);
  EXPECT_THAT(
      error_of([&] { wrapped.forward(view_of(x.data(), Shape{2, 7}), view_of(y.data(), Shape{2, 6})); }),
      HasSubstr("expected x [T, 8], found 2 dimensions, the last of 7"));
}

TEST_F(Fp8LinearTest, BiasesAreThereInEveryStorage) {
  for (const auto storage :
       {Fp8SourceStorage::kKeep, Fp8SourceStorage::kOffload, Fp8SourceStorage::kDiscard}) {
    const auto dense = linear();
    const Fp8Linear wrapped(dense, {.storage = storage});
    EXPECT_EQ(wrapped.bias(), dense->bias());
    EXPECT_NE(wrapped.bias(), nullptr);
  }
}

TEST_F(Fp8LinearTest, CopiesInEveryStateAnswerTheSameOverTheSameFp8Weight) {
  for (const auto storage :
       {Fp8SourceStorage::kKeep, Fp8SourceStorage::kOffload, Fp8SourceStorage::kDiscard}) {
    for (const bool now : {true, false}) {
      Fp8Linear wrapped(linear(), {.storage = storage, .materialize_on_wrap = now});
      const auto copy = std::dynamic_pointer_cast<Fp8Linear>(wrapped.copy());
      ASSERT_NE(copy, nullptr);
      EXPECT_EQ(run(*copy), run(wrapped));
      EXPECT_EQ(copy->fp8_weight(), wrapped.fp8_weight());
      EXPECT_EQ(copy->linear() == nullptr, wrapped.linear() == nullptr);
    }
  }
}

TEST_F(Fp8LinearTest, ACopyThatKeepsItsLinearFollowsItsOwnWeight) {
  Fp8Linear wrapped(linear(), {.storage = Fp8SourceStorage::kKeep});
  const auto before = run(wrapped);
  const auto copy = std::dynamic_pointer_cast<Fp8Linear>(wrapped.copy());
  copy->linear()->set_weight(weight(6, 8, DType::kBF16, 0.5F));
  EXPECT_NE(run(*copy), before);
  EXPECT_EQ(run(wrapped), before);
}

}  // namespace
}  // namespace octet
