// SPDX-License-Identifier: Apache-2.0
#include "octet/loading/memory_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/loading/memory_source.h"

namespace octet {
namespace {

using testing::HasSubstr;

constexpr LoadTarget kTarget{.weight_layout = MatrixLayout::kLanes64, .threads = 1};

struct TinyModel {
  explicit TinyModel(bool fp8_head) {
    const StorageRule fp8{.quantize = true};
    source.add("model.embed_tokens.weight", DType::kBF16, {100, 30});
    source.add("model.layers.0.input_layernorm.weight", DType::kBF16, {30});
    source.add("model.layers.0.self_attn.q_proj.weight", DType::kBF16, {70, 30});
    source.add("model.layers.0.mlp.up_proj.weight", DType::kBF16, {64, 30});
    source.add("lm_head.weight", DType::kBF16, {100, 30});
    model.matrix({{"model.embed_tokens.weight", 100}}, 30, {}).lookup_only = true;
    model.vector({{"model.layers.0.input_layernorm.weight", 30}});
    model.matrix({{"model.layers.0.self_attn.q_proj.weight", 70}}, 30, fp8);
    model.matrix({{"model.layers.0.mlp.up_proj.weight", 64}}, 30, fp8);
    model.matrix({{"lm_head.weight", 100}}, 30, fp8_head ? fp8 : StorageRule{});
  }
  MemorySource source;
  TestModel model;
};

TEST(MemoryPlan, CountsPaddingAndScalesToTheByte) {
  const TinyModel tiny(false);
  const MemoryPlan plan = plan_memory(tiny.model.parameters, tiny.source, {}, kTarget);
  const int64_t embedding = 100 * 30 * 2;
  const int64_t norm = 30 * 2;
  const int64_t q = 128 * 32 + 70 * 4;  // two panels of 64 rows, columns in fours, a scale for each row
  const int64_t up = 64 * 32 + 64 * 4;
  const int64_t head = 128 * 30 * 2;
  EXPECT_EQ(plan.final_bytes, embedding + norm + q + up + head);
  EXPECT_EQ(plan.peak_bytes, plan.final_bytes + plan.loading_bytes);
}

TEST(MemoryPlan, SumsByGroupInAFixedOrder) {
  const TinyModel tiny(false);
  const MemoryPlan plan = plan_memory(tiny.model.parameters, tiny.source, {}, kTarget);
  std::vector<std::string> names;
  int64_t after = 0;
  for (const PlanGroup& group : plan.groups) {
    names.push_back(group.name);
    after += group.bytes_after;
  }
  EXPECT_EQ(names, (std::vector<std::string>{"embed_tokens", "attention", "mlp", "norms", "lm_head"}));
  EXPECT_EQ(after, plan.final_bytes);
  EXPECT_EQ(plan.groups[1].elements, 70 * 30);
  EXPECT_EQ(plan.groups[1].bytes_before, 70 * 30 * 2);
  EXPECT_EQ(plan.groups[1].bytes_after, 128 * 32 + 70 * 4);
}

TEST(MemoryPlan, AnOptionSavesTheDifferenceOfTwoPlans) {
  const TinyModel without(false);
  const TinyModel with(true);
  const int64_t saved = saved_bytes(plan_memory(without.model.parameters, without.source, {}, kTarget),
                                    plan_memory(with.model.parameters, with.source, {}, kTarget));
  EXPECT_EQ(saved, 128 * 30 * 2 - (128 * 32 + 100 * 4));
}

TEST(MemoryPlan, AHeadOf131072By5120TakesExactly640MiBPlusItsScales) {
  // The plan asks for headers only, so the bytes need not be there.
  class Header final : public WeightSource {
   public:
    [[nodiscard]] std::string describe() const override { return "model"; }
    [[nodiscard]] const std::vector<SourceTensor>& tensors() const override { return tensors_; }
    void read_rows(const SourceTensor& /*tensor*/, int64_t /*begin*/, int64_t /*end*/,
                   std::span<std::byte> /*into*/) const override {
      throw FormatError("nothing may be read");
    }

   private:
    std::vector<SourceTensor> tensors_{
        {.name = "lm_head.weight", .dtype = DType::kBF16, .shape = {131072, 5120}, .file = "a", .index = 0}};
  };
  TestModel model;
  model.matrix({{"lm_head.weight", 131072}}, 5120, {.quantize = true});
  const Header header;
  const MemoryPlan plan = plan_memory(model.parameters, header, {}, kTarget);
  EXPECT_EQ(plan.final_bytes, (int64_t{640} << 20) + 131072 * 4);
}

TEST(MemoryPlan, LoadingBuffersStayWithinTheirBudgetForAnyNumberOfThreads) {
  MemorySource source;
  source.add("a.weight", DType::kBF16, {4000, 1000});
  TestModel model;
  model.matrix({{"a.weight", 4000}}, 1000, {.quantize = true, .granularity = Granularity::kBlock});
  for (const int threads : {1, 2, 8, 64, 200, 1024}) {
    for (const int64_t tile_bytes : {1, 1 << 21, 1 << 30}) {
      const MemoryPlan plan = plan_memory(model.parameters, source, {.tile_bytes = tile_bytes},
                                          {.weight_layout = {}, .threads = threads});
      EXPECT_LE(plan.loading_bytes, kLoadingBudget) << threads << " threads, tiles of " << tile_bytes;
      EXPECT_GT(plan.loading_bytes, 0);
    }
  }
}

TEST(MemoryPlan, RefusesAWeightOfWhichNoRowFitsTheBudget) {
  class Wide final : public WeightSource {
   public:
    [[nodiscard]] std::string describe() const override { return "model"; }
    [[nodiscard]] const std::vector<SourceTensor>& tensors() const override { return tensors_; }
    void read_rows(const SourceTensor& /*tensor*/, int64_t /*begin*/, int64_t /*end*/,
                   std::span<std::byte> /*into*/) const override {}

   private:
    std::vector<SourceTensor> tensors_{{.name = "wide.weight",
                                        .dtype = DType::kF32,
                                        .shape = {2, int64_t{1} << 24},
                                        .file = "a",
                                        .index = 0}};
  };
  TestModel model;
  model.matrix({{"wide.weight", 2}}, int64_t{1} << 24, {});
  const Wide wide;
  try {
    (void)plan_memory(model.parameters, wide, {}, kTarget);
    FAIL();
  } catch (const ConfigError& error) {
    EXPECT_THAT(error.what(), HasSubstr("tensor 'wide.weight': one row needs"));
  }
}

}  // namespace
}  // namespace octet
