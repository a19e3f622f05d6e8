// SPDX-License-Identifier: Apache-2.0
#include "octet/loading/load_session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "tests/loading/load_rig.h"
#include "tests/loading/watched_source.h"

namespace octet {
namespace {

using testing::AllOf;
using testing::HasSubstr;

TEST(LoadSession, RefusesNonFiniteValuesNamingEveryTensorWithItsFirstRowAndCount) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float inf = std::numeric_limits<float>::infinity();
  for (const StorageRule& rule : all_rules()) {
    SCOPED_TRACE(describe(rule));
    MemorySource source;
    std::vector<float> values(40, 0.5F);
    values[17] = nan;
    values[33] = -inf;
    values[36] = inf;
    source.add("a.weight", DType::kBF16, {10, 4}, values);
    source.add("b.weight", DType::kBF16, {1, 4}, {1, 2, inf, 3});
    Device device(MatrixLayout::kRowMajor, 2);
    TestModel model;
    const StoredMatrix& a = model.matrix({{"a.weight", 10}}, 4, rule);
    model.matrix({{"b.weight", 1}}, 4, rule);
    EXPECT_THAT(refusal<FormatError>([&] { device.load(model, source, {.tile_bytes = 16}); }),
                AllOf(HasSubstr("tensor 'a.weight': 3 values are NaN or infinite, the first in row 4;"),
                      HasSubstr("tensor 'b.weight': 1 values are NaN or infinite, the first in row 0;")));
    EXPECT_TRUE(a.matrix.empty());
    EXPECT_EQ(device.ledger.current(), 0);
    const LoadReport report = device.load(model, source, {.allow_nonfinite = true, .tile_bytes = 16});
    EXPECT_EQ(report.weights[0].nonfinite, 3);
    EXPECT_EQ(report.weights[1].nonfinite, 1);
  }
}

TEST(LoadSession, SaysThatAMatrixIsFiniteWhenAllOfItWasQuantizedFromFiniteValues) {
  const float inf = std::numeric_limits<float>::infinity();
  MemorySource source;
  source.add("whole.weight", DType::kBF16, {2, 4});
  source.add("first.weight", DType::kBF16, {1, 4});
  source.add("second.weight", DType::kBF16, {1, 4}, {1, 2, inf, 3});
  source.add("kept.weight", DType::kBF16, {2, 4});
  Device device;
  TestModel model;
  const StorageRule rule = rule_of(Granularity::kChannel);
  const StoredMatrix& whole = model.matrix({{"whole.weight", 2}}, 4, rule);
  const StoredMatrix& merged = model.matrix({{"first.weight", 1}, {"second.weight", 1}}, 4, rule);
  const StoredMatrix& kept = model.matrix({{"kept.weight", 2}}, 4, {});
  device.load(model, source, {.allow_nonfinite = true});
  EXPECT_TRUE(whole.matrix.view().codes_finite);
  EXPECT_FALSE(merged.matrix.view().codes_finite);
  EXPECT_FALSE(kept.matrix.view().codes_finite);
}

TEST(LoadSession, CancellingReleasesEverythingAtAnyMoment) {
  MemorySource source;
  source.add("a.weight", DType::kBF16, {100, 50});
  source.add("norm.weight", DType::kBF16, {50});
  for (const int threads : {1, 3}) {
    for (const int last_call : {1, 2}) {  // before the first tile, after the last
      Device device(MatrixLayout::kRowMajor, threads);
      TestModel model;
      const StoredMatrix& matrix = model.matrix({{"a.weight", 100}}, 50, rule_of(Granularity::kChannel));
      const StoredVector& vector = model.vector({{"norm.weight", 50}});
      int calls = 0;
      const auto stop = [&](const LoadProgress&) { return ++calls < last_call; };
      EXPECT_THAT(
          refusal<Interrupted>([&] { device.load(model, source, {.tile_bytes = 128, .progress = stop}); }),
          HasSubstr("stopped"));
      EXPECT_TRUE(matrix.matrix.empty());
      EXPECT_TRUE(vector.tensor.empty());
      EXPECT_EQ(device.ledger.current(), 0);
      device.load(model, source);
      EXPECT_FALSE(matrix.matrix.empty());
    }
  }
}

TEST(LoadSession, AReadThatFailsReleasesEverything) {
  MemorySource source;
  source.add("a.weight", DType::kBF16, {100, 50});
  const WatchedSource failing(source, [](const SourceTensor&, int64_t begin) {
    if (begin > 50) throw FormatError("the disk fails");
  });
  Device device(MatrixLayout::kRowMajor, 3);
  TestModel model;
  const StoredMatrix& matrix = model.matrix({{"a.weight", 100}}, 50, rule_of(Granularity::kChannel));
  EXPECT_EQ(refusal<FormatError>([&] { device.load(model, failing, {.tile_bytes = 128}); }),
            "the disk fails");
  EXPECT_TRUE(matrix.matrix.empty());
  EXPECT_EQ(device.ledger.current(), 0);
}

TEST(LoadSession, ProgressEndsWithEveryByteReadAndShowsThePlan) {
  for (const StorageRule& rule : all_rules()) {
    MemorySource source;
    source.add("a.weight", DType::kBF16, {300, 50});
    source.add("b.weight", DType::kBF16, {129, 50});
    Device device;
    TestModel model;
    model.matrix({{"a.weight", 300}}, 50, rule);
    model.matrix({{"b.weight", 129}}, 50, rule);
    LoadProgress last;
    const LoadReport report =
        device.load(model, source, {.tile_bytes = 1000, .progress = [&](const LoadProgress& p) {
                                      last = p;
                                      return true;
                                    }});
    EXPECT_EQ(last.bytes_read, last.bytes_total) << describe(rule);
    EXPECT_EQ(last.bytes_read, source.read_bytes());
    EXPECT_EQ(report.read_bytes, source.read_bytes());
    EXPECT_EQ(last.planned_peak_bytes, report.predicted_peak_bytes);
    EXPECT_EQ(last.memory_bytes, report.peak_bytes);
  }
}

TEST(LoadSession, DropsTheCacheOfWhatItReadWhenAsked) {
  MemorySource source;
  source.add("a.weight", DType::kBF16, {3, 5});
  for (const bool drop : {false, true}) {
    const WatchedSource counting(source);
    Device device;
    TestModel model;
    model.matrix({{"a.weight", 3}}, 5, {});
    device.load(model, counting, {.drop_page_cache = drop});
    EXPECT_EQ(counting.dropped.size(), drop ? 1U : 0U);
  }
}

}  // namespace
}  // namespace octet
