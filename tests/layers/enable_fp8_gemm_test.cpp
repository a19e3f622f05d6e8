// SPDX-License-Identifier: Apache-2.0
#include "octet/layers/enable_fp8_gemm.h"

#include "tests/layers/fp8_linear_rig.h"

namespace octet {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

using EnableFp8GemmTest = Fp8LinearRig;

/// Reads the weight of its child itself.
class Reader : public Module {
 public:
  explicit Reader(const std::shared_ptr<DenseLinear>& inner) { add_child("inner", inner); }

 protected:
  void check_child(std::string_view /*name*/, const Module& module) const override {
    if (dynamic_cast<const DenseLinear*>(&module) == nullptr)
      throw ArgumentError("Reader reads the weight itself");
  }
};

TEST_F(EnableFp8GemmTest, AWrappedTreeComputesNearlyTheSame) {
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

TEST_F(EnableFp8GemmTest, TheFilterIsAskedOnceForEachLinearWithItsFirstName) {
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

TEST_F(EnableFp8GemmTest, ARootThatIsALinearIsWrappedAndReturned) {
  const std::shared_ptr<Module> root = linear();
  const auto wrapper =
      enable_fp8_gemm(root, {}, [](std::string_view name, const Module&) { return name.empty(); });
  ASSERT_NE(std::dynamic_pointer_cast<Fp8Linear>(wrapper), nullptr);
  EXPECT_EQ(enable_fp8_gemm(wrapper), wrapper);
}

TEST_F(EnableFp8GemmTest, LinearsThatShareAWeightShareItsFp8Form) {
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

TEST_F(EnableFp8GemmTest, BadInputIsRefusedAndTheTreeIsAsItWas) {
  EXPECT_THAT(error_of([] { enable_fp8_gemm(nullptr); }), HasSubstr("found none"));
  EXPECT_THAT(error_of([] { enable_fp8_gemm(std::make_shared<Module>()); }), HasSubstr("no linear"));
  EXPECT_THAT(error_of([] { (void)fp8_report(nullptr); }), HasSubstr("found none"));
  const auto root = std::make_shared<Block>(linear(), linear());
  const auto up = root->child("up");
  const auto failing = [](std::string_view name, const Module&) -> bool {
    if (name == "down") throw std::runtime_error("mine");
    return true;
  };
  EXPECT_THROW(enable_fp8_gemm(root, {}, failing), std::runtime_error);
  EXPECT_THAT(error_of([&] { enable_fp8_gemm(root, {.cast_inputs = false}); }),
              HasSubstr("kOffload or kKeep"));
  EXPECT_EQ(root->child("up"), up);
  const auto broken = weight();
  broken->tensor.view().row<bfloat16>(2)[3] = to_bfloat16(NAN);
  const auto late = std::make_shared<Block>(linear(), std::make_shared<DenseLinear>(*backend_, broken));
  const auto first = late->child("up");
  EXPECT_THAT(error_of([&] { enable_fp8_gemm(late); }),
              HasSubstr("the weight of 'down' has 1 values that are NaN or infinite"));
  EXPECT_EQ(late->child("up"), first);
}

TEST_F(EnableFp8GemmTest, WrappingTwiceChangesNothingInAnyStorage) {
  for (const auto storage :
       {Fp8SourceStorage::kKeep, Fp8SourceStorage::kOffload, Fp8SourceStorage::kDiscard}) {
    const auto root = std::make_shared<Block>(linear(), linear());
    enable_fp8_gemm(root, {.storage = storage});
    const auto up = root->child("up");
    int asked = 0;
    enable_fp8_gemm(root, {.storage = storage}, [&](std::string_view, const Module&) { return ++asked > 0; });
    EXPECT_EQ(root->child("up"), up);
    EXPECT_EQ(asked, 0);
    const auto kept = std::dynamic_pointer_cast<Fp8Linear>(up)->linear();
    EXPECT_EQ(kept != nullptr, storage == Fp8SourceStorage::kKeep);
  }
}

TEST_F(EnableFp8GemmTest, ACopyIsWrappedAndTheOriginalLeftUntouched) {
  const auto root = std::make_shared<Module>();
  const auto shared = linear();
  const auto left_out = linear();
  root->add_child("a", std::make_shared<Block>(shared, left_out));
  root->add_child("b", std::make_shared<Block>(linear(), shared));
  const auto expected = run(*shared);
  const auto filter = [&](std::string_view, const Module& module) { return &module != left_out.get(); };
  const auto copy = enable_fp8_gemm(root, {}, filter, false);
  ASSERT_NE(copy, root);
  EXPECT_EQ(root->child("a")->child("up"), shared);
  EXPECT_EQ(root->child("b")->child("down"), shared);
  EXPECT_EQ(run(*shared), expected);
  const auto up = copy->child("a")->child("up");
  EXPECT_NE(std::dynamic_pointer_cast<Fp8Linear>(up), nullptr);
  EXPECT_EQ(copy->child("b")->child("down"), up);
  EXPECT_NE(std::dynamic_pointer_cast<DenseLinear>(copy->child("a")->child("down")), nullptr);
  EXPECT_NE(copy->child("a")->child("down"), left_out);
}

TEST_F(EnableFp8GemmTest, ARootThatIsALinearIsCopiedToo) {
  const auto root = linear();
  const auto wrapper = enable_fp8_gemm(root, {.storage = Fp8SourceStorage::kKeep}, {}, false);
  const auto wrapped = std::dynamic_pointer_cast<Fp8Linear>(wrapper);
  ASSERT_NE(wrapped, nullptr);
  EXPECT_NE(wrapped->linear(), root);
  root->set_weight(weight(6, 8, DType::kBF16, 0.5F));
  EXPECT_NE(wrapped->linear()->weight(), root->weight());
}

TEST_F(EnableFp8GemmTest, ATreeThatCannotBeCopiedIsLeftAsItWas) {
  const auto root = std::make_shared<Module>();
  root->add_child("reader", std::make_shared<Reader>(linear()));
  root->add_child("other", linear());
  const auto other = root->child("other");
  EXPECT_THAT(error_of([&] { enable_fp8_gemm(root, {}, {}, false); }), HasSubstr("does not override copy()"));
  EXPECT_EQ(root->child("other"), other);
}

TEST_F(EnableFp8GemmTest, LinearsWhoseParentsReadTheWeightAreLeftAloneAndListed) {
  const auto root = std::make_shared<Module>();
  const auto both = linear();
  root->add_child("reader", std::make_shared<Reader>(both));
  root->add_child("block", std::make_shared<Block>(both, linear()));
  enable_fp8_gemm(root);
  EXPECT_EQ(root->child("reader")->child("inner"), both);
  EXPECT_EQ(root->child("block")->child("up"), both);
  const auto report = fp8_report(root);
  ASSERT_EQ(report.size(), 2U);
  EXPECT_THAT(report[0].names, ElementsAre("reader.inner", "block.up"));
  EXPECT_FALSE(report[0].wrapped);
  EXPECT_EQ(report[0].reason, "Reader reads the weight itself");
  EXPECT_TRUE(report[1].wrapped);
}

TEST_F(EnableFp8GemmTest, TheReportCountsWhatEachStorageHoldsAndWhatIsSharedOnce) {
  for (const auto& [storage, share] : {std::pair{Fp8SourceStorage::kKeep, 1.5},
                                       {Fp8SourceStorage::kOffload, 1.5},
                                       {Fp8SourceStorage::kDiscard, 0.5}}) {
    const auto shared = weight(256, 256);
    const auto root = std::make_shared<Block>(std::make_shared<DenseLinear>(*backend_, shared),
                                              std::make_shared<DenseLinear>(*backend_, shared));
    EXPECT_EQ(fp8_report(root)[0].reason, "enable_fp8_gemm was not asked to");
    enable_fp8_gemm(root, {.storage = storage});
    const auto report = fp8_report(root);
    EXPECT_EQ(report[0].bytes_16bit, 2 * 256 * 256);
    EXPECT_NEAR(static_cast<double>(report[0].bytes), share * 2 * 256 * 256, 0.02 * 256 * 256);
    EXPECT_EQ(report[1].bytes, 0);
    EXPECT_THAT(report[1].reason, HasSubstr("earlier layer"));
  }
}

TEST_F(EnableFp8GemmTest, WhileWrappingNoMoreThanOneLayerIsHeldTwice) {
  const auto root = std::make_shared<Module>();
  constexpr int64_t kSize = 256;
  constexpr int64_t kLayers = 6;
  for (int i = 0; i < kLayers; ++i)
    root->add_child(std::to_string(i), std::make_shared<DenseLinear>(*backend_, weight(kSize, kSize)));
  const int64_t before = ledger_.current();
  ledger_.restart_peak();
  enable_fp8_gemm(root);
  EXPECT_LE(ledger_.peak(), before + 2 * kSize * kSize);
  EXPECT_EQ(ledger_.current("test"), 0);
  EXPECT_LE(ledger_.current("weights"), kLayers * 2 * kSize * kSize * 52 / 100);
}

}  // namespace
}  // namespace octet
