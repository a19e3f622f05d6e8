// SPDX-License-Identifier: Apache-2.0
#include "octet/layers/fp8_linear.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "octet/backend/factory.h"

namespace octet {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

template <class Call>
std::string error_of(Call&& call) {
  try {
    call();
  } catch (const ArgumentError& error) {
    return error.what();
  }
  return "no ArgumentError";
}

class Fp8LinearTest : public testing::Test {
 protected:
  Tensor tensor(DType dtype, Shape shape, float first = 0.25F) {
    Tensor made(Buffer(backend_->allocator(), ledger_, "test", shape.elements() * dtype_size(dtype)), dtype,
                shape);
    std::vector<float> values(static_cast<size_t>(shape.elements()));
    for (size_t i = 0; i < values.size(); ++i) values[i] = first * static_cast<float>(1 + i * 7 % 13) - 1.0F;
    const int64_t cols = made.view().cols();
    const int64_t rows = made.view().rows();
    backend_->store(view_of(values.data(), Shape{rows, cols}),
                    {.data = made.view().data(), .dtype = dtype, .rows = rows, .cols = cols}, {});
    return made;
  }
  std::shared_ptr<SourceWeight> weight(int64_t n = 6, int64_t k = 8, DType dtype = DType::kBF16,
                                       float first = 0.25F) {
    return std::make_shared<SourceWeight>(SourceWeight{.tensor = tensor(dtype, Shape{n, k}, first)});
  }
  std::shared_ptr<DenseLinear> linear(int64_t n = 6, int64_t k = 8) {
    return std::make_shared<DenseLinear>(*backend_, weight(n, k),
                                         std::make_shared<const Tensor>(tensor(DType::kF32, Shape{n})));
  }
  std::vector<float> run(LinearModule& module, int64_t tokens = 2) {
    std::vector<float> x(static_cast<size_t>(tokens * module.in_features()));
    for (size_t i = 0; i < x.size(); ++i) x[i] = 0.5F * static_cast<float>(i % 5) - 1.0F;
    std::vector<float> y(static_cast<size_t>(tokens * module.out_features()));
    module.forward(view_of(x.data(), Shape{tokens, module.in_features()}),
                   view_of(y.data(), Shape{tokens, module.out_features()}));
    return y;
  }
  void expect_near(const std::vector<float>& found, const std::vector<float>& expected) {
    ASSERT_EQ(found.size(), expected.size());
    for (size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(found[i], expected[i], 0.25F) << i;
  }

  MemoryLedger ledger_;
  std::unique_ptr<Backend> backend_ = make_backend({.device = "cpu", .threads = 2}, ledger_);
};

class Block : public Module {
 public:
  Block(const std::shared_ptr<Module>& up, const std::shared_ptr<Module>& down) {
    add_child("up", up);
    add_child("down", down);
  }

 protected:
  void check_child(std::string_view name, const Module& module) const override {
    if (dynamic_cast<const LinearModule*>(&module) == nullptr)
      throw ArgumentError("the child " + std::string(name) + " must be a linear");
  }
};

TEST_F(Fp8LinearTest, NamedChildrenCanBeReplacedByWhatTheirParentTakes) {
  Block block(linear(), linear());
  const auto other = linear();
  block.replace_child("down", other);
  EXPECT_EQ(block.child("down"), other);
  EXPECT_THAT(error_of([&] { block.replace_child("middle", other); }),
              HasSubstr("the children are up, down"));
  EXPECT_THAT(error_of([&] { block.replace_child("up", nullptr); }), HasSubstr("null"));
  EXPECT_THAT(error_of([&] { block.replace_child("up", std::make_shared<Module>()); }),
              HasSubstr("must be a linear"));
  EXPECT_THAT(error_of([&] { block.add_child("up", other); }), HasSubstr("already"));
  EXPECT_THAT(error_of([&] { block.add_child("a.b", other); }), HasSubstr("without dots"));
}

TEST_F(Fp8LinearTest, AWrappedTreeComputesNearlyTheSame) {
  const auto root = std::make_shared<Module>();
  const auto first = linear();
  root->add_child("block", std::make_shared<Block>(first, linear()));
  const auto expected = run(*first);
  EXPECT_EQ(enable_fp8_gemm(root), root);
  const auto wrapped = std::dynamic_pointer_cast<Fp8Linear>(root->child("block")->child("up"));
  ASSERT_NE(wrapped, nullptr);
  expect_near(run(*wrapped), expected);
  EXPECT_NE(run(*wrapped), expected);
}

TEST_F(Fp8LinearTest, TheFilterIsAskedOnceForEachLinearWithItsFirstName) {
  const auto root = std::make_shared<Module>();
  const auto shared = linear();
  root->add_child("a", std::make_shared<Block>(shared, linear()));
  root->add_child("b", std::make_shared<Block>(linear(), shared));
  std::vector<std::string> names;
  enable_fp8_gemm(root, {}, [&](std::string_view name, const Module&) {
    names.emplace_back(name);
    return name != "a.down";
  });
  EXPECT_THAT(names, ElementsAre("a.up", "a.down", "b.up"));
  EXPECT_EQ(root->child("a")->child("up"), root->child("b")->child("down"));
  EXPECT_NE(std::dynamic_pointer_cast<DenseLinear>(root->child("a")->child("down")), nullptr);
  const auto before = root->child("b")->child("up");
  enable_fp8_gemm(root);
  EXPECT_EQ(root->child("b")->child("up"), before);
}

TEST_F(Fp8LinearTest, ARootThatIsALinearIsWrappedAndReturned) {
  const std::shared_ptr<Module> root = linear();
  const auto wrapper =
      enable_fp8_gemm(root, {}, [](std::string_view name, const Module&) { return name.empty(); });
  ASSERT_NE(std::dynamic_pointer_cast<Fp8Linear>(wrapper), nullptr);
  EXPECT_EQ(enable_fp8_gemm(wrapper), wrapper);
}

TEST_F(Fp8LinearTest, LinearsThatShareAWeightShareItsFp8Form) {
  for (const DType dtype : {DType::kBF16, DType::kF32}) {
    for (const bool now : {true, false}) {
      const auto shared = weight(6, 8, dtype);
      const auto root = std::make_shared<Block>(std::make_shared<DenseLinear>(*backend_, shared),
                                                std::make_shared<DenseLinear>(*backend_, shared));
      enable_fp8_gemm(root, {.materialize_on_wrap = now});
      const auto up = std::dynamic_pointer_cast<Fp8Linear>(root->child("up"));
      const auto down = std::dynamic_pointer_cast<Fp8Linear>(root->child("down"));
      EXPECT_EQ(run(*up), run(*down));
      EXPECT_EQ(up->fp8_weight(), down->fp8_weight());
    }
  }
}

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

TEST_F(Fp8LinearTest, BadInputIsRefusedAndTheTreeIsAsItWas) {
  EXPECT_THAT(error_of([] { Fp8GemmOptions{.cast_inputs = false}.validate(); }),
              HasSubstr("kOffload or kKeep"));
  EXPECT_THAT(error_of([] { enable_fp8_gemm(nullptr); }), HasSubstr("found none"));
  EXPECT_THAT(error_of([] { enable_fp8_gemm(std::make_shared<Module>()); }), HasSubstr("no linear"));
  EXPECT_THAT(error_of([&] { Fp8Linear(nullptr, {}); }), HasSubstr("found none"));
  const auto root = std::make_shared<Block>(linear(), linear());
  const auto up = root->child("up");
  const auto failing = [](std::string_view name, const Module&) -> bool {
    if (name == "down") throw std::runtime_error("mine");
    return true;
  };
  EXPECT_THROW(enable_fp8_gemm(root, {}, failing), std::runtime_error);
  EXPECT_EQ(root->child("up"), up);
  const auto broken = weight();
  broken->tensor.view().row<bfloat16>(2)[3] = to_bfloat16(NAN);
  const auto late = std::make_shared<Block>(linear(), std::make_shared<DenseLinear>(*backend_, broken));
  const auto first = late->child("up");
  EXPECT_THAT(error_of([&] { enable_fp8_gemm(late); }),
              HasSubstr("the weight of 'down' has 1 values that are NaN or infinite"));
  EXPECT_EQ(late->child("up"), first);
  Fp8Linear wrapped(linear(), {});
  std::vector<float> x(14);
  std::vector<float> y(12);
  EXPECT_THAT(
      error_of([&] { wrapped.forward(view_of(x.data(), Shape{2, 7}), view_of(y.data(), Shape{2, 6})); }),
      HasSubstr("expected x [T, 8], found 2 dimensions, the last of 7"));
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

}  // namespace
}  // namespace octet
