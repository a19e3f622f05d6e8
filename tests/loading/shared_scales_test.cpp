// SPDX-License-Identifier: Apache-2.0
// Shards put together are byte for byte the weights of one rank.
#include "octet/loading/shared_scales.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "octet/loading/dummy_weights.h"
#include "tests/loading/load_rig.h"
#include "tests/loading/thread_peers.h"

namespace octet {
namespace {

using testing::HasSubstr;

constexpr int64_t kSharedRows = 300;
constexpr int64_t kSharedCols = 290;

using Cuts = std::vector<TensorSlice>;  // of each rank

Cuts by_rows(const std::vector<IndexRange>& ranges) {
  Cuts cuts;
  for (const IndexRange& range : ranges) cuts.push_back({.rows = range});
  return cuts;
}
Cuts by_cols(const std::vector<IndexRange>& ranges) {
  Cuts cuts;
  for (const IndexRange& range : ranges) cuts.push_back({.cols = range});
  return cuts;
}

std::vector<Cuts> all_cuts() {
  return {
      by_rows({{0, 128}, {128, 300}}),                        // on the edge of a block
      by_rows({{0, 77}, {77, 150}, {150, 299}, {299, 300}}),  // ragged
      by_rows({{0, 64}, {0, 64}, {64, 300}, {64, 300}}),      // fewer parts than ranks
      by_rows({{0, 300}, {300, 300}}),                        // nothing left for the second
      by_cols({{0, 256}, {256, 290}}),
      by_cols({{0, 97}, {97, 194}, {194, 290}}),
      by_cols({{0, 289}, {289, 290}, {290, 290}}),
      Cuts(2),  // not cut
  };
}

/// One rank's share of "w.weight" and of its bias.
struct Shard {
  Shard(const TensorSlice& slice, const StorageRule& rule) {
    const IndexRange rows = slice.rows.value_or(IndexRange{0, kSharedRows});
    const IndexRange cols = slice.cols.value_or(IndexRange{0, kSharedCols});
    matrix = &model.matrix({{"first.weight", rows.size()}, {"w.weight", rows.size()}}, cols.size(), rule);
    bias = &model.vector({{"w.bias", rows.size()}});
    for (size_t i = 0; i < 2; ++i) {
      model.parameters[i].shape = Shape{kSharedRows, kSharedCols};
      model.parameters[i].slice = slice;
    }
    model.parameters[2].shape = Shape{kSharedRows};
    model.parameters[2].slice.rows = slice.rows;
    first_row = rows.begin;
    first_col = cols.begin;
  }
  TestModel model;
  StoredMatrix* matrix = nullptr;
  StoredVector* bias = nullptr;
  int64_t first_row = 0;
  int64_t first_col = 0;
};

/// What is stored for element (row, col), given in the whole tensor, of member 0 or 1.
struct Element {
  uint8_t code = 0;
  float scale = 0;
  bool operator==(const Element&) const = default;
};
Element element(const Shard& shard, int64_t member, int64_t row, int64_t col) {
  const QuantMatrixView view = shard.matrix->matrix.view();
  const int64_t r = member * (view.rows / 2) + row - shard.first_row;
  const int64_t c = col - shard.first_col;
  return {.code = std::to_integer<uint8_t>(*view.element(r, c)), .scale = view.scale(r, c)};
}

int64_t count_differences(const Shard& whole, const Shard& shard) {
  const QuantMatrixView view = shard.matrix->matrix.view();
  int64_t differing = 0;
  for (int64_t member = 0; member < 2; ++member) {
    for (int64_t row = shard.first_row; row < shard.first_row + view.rows / 2; ++row) {
      for (int64_t col = shard.first_col; col < shard.first_col + view.cols; ++col) {
        differing += element(whole, member, row, col) == element(shard, member, row, col) ? 0 : 1;
      }
    }
  }
  if (shard.bias->size > 0 &&
      std::memcmp(shard.bias->tensor.view().data(),
                  std::as_const(whole.bias->tensor).view().row<std::byte>(0) + 2 * shard.first_row,
                  static_cast<size_t>(2 * shard.bias->size)) != 0)
    ++differing;
  return differing;
}

void expect_shards_of_the_whole(const WeightSource& source, const StorageRule& rule, const Cuts& cuts,
                                const LoadOptions& options) {
  Device device;
  Shard whole({}, rule);
  device.load(whole.model, source, options);
  ThreadPeers peers(static_cast<int>(cuts.size()));
  peers.run([&](int rank, LoadPeers& mine) {
    Device own(MatrixLayout::kLanes64, 1 + rank % 2);
    Shard shard(cuts[static_cast<size_t>(rank)], rule);
    LoadOptions with_peers = options;
    with_peers.peers = &mine;
    int64_t read = 0;
    int64_t total = 0;
    with_peers.progress = [&](const LoadProgress& progress) {
      read = progress.bytes_read;
      total = progress.bytes_total;
      return true;
    };
    const LoadReport report = own.load(shard.model, source, with_peers);
    EXPECT_EQ(count_differences(whole, shard), 0) << "rank " << rank << " of " << cuts.size();
    EXPECT_EQ(report.final_bytes, report.predicted_final_bytes);
    EXPECT_EQ(report.peak_bytes, report.predicted_peak_bytes);
    EXPECT_EQ(report.read_bytes, read);
    EXPECT_EQ(read, total);
  });
}

MemorySource weights_and_bias(DType dtype) {
  MemorySource source;
  for (const char* name : {"first.weight", "w.weight"}) source.add(name, dtype, {kSharedRows, kSharedCols});
  source.add("w.bias", DType::kBF16, {kSharedRows});
  return source;
}

TEST(SharedScales, ShardsHoldTheCodesAndScalesOfTheWholeForEveryGranularityFormatAndProfile) {
  const MemorySource source = weights_and_bias(DType::kBF16);
  for (const StorageRule& rule : all_rules()) {
    const bool all = rule.format == DType::kF8E4M3 && rule.numerics == kVllm;
    for (const Cuts& cuts : all ? all_cuts() : std::vector{all_cuts()[1], all_cuts()[5]}) {
      SCOPED_TRACE(describe(rule));
      expect_shards_of_the_whole(source, rule, cuts, {.tile_bytes = 30'000});
    }
  }
}

TEST(SharedScales, TheSizeOfTilesAndTheDtypeOfTheFileChangeNothing) {
  for (const DType dtype : {DType::kF32, DType::kF16}) {
    const MemorySource source = weights_and_bias(dtype);
    for (const Granularity granularity : {Granularity::kTensor, Granularity::kChannel, Granularity::kBlock}) {
      for (const int64_t tile_bytes : {1, 5000, 4 << 20}) {
        for (const Cuts& cuts : {all_cuts()[1], all_cuts()[5]})
          expect_shards_of_the_whole(source, rule_of(granularity), cuts, {.tile_bytes = tile_bytes});
      }
    }
  }
}

TEST(SharedScales, WeightsThatAreNotQuantizedAreCutToo) {
  const MemorySource source = weights_and_bias(DType::kBF16);
  for (const Cuts& cuts : all_cuts()) {
    Device device;
    Shard whole({}, {});
    device.load(whole.model, source);
    ThreadPeers peers(static_cast<int>(cuts.size()));
    peers.run([&](int rank, LoadPeers& mine) {
      Device own(MatrixLayout::kLanes64);
      Shard shard(cuts[static_cast<size_t>(rank)], {});
      own.load(shard.model, source, {.tile_bytes = 3000, .peers = &mine});
      EXPECT_EQ(count_differences(whole, shard), 0);
    });
  }
}

TEST(SharedScales, AdoptedCodesKeepTheirScalesInEveryLayoutOfTheFile) {
  struct Scales {
    std::string suffix;
    std::vector<int64_t> shape;
    std::optional<BlockSize> block;
  };
  const std::vector<Scales> layouts = {{"_scale", {}, {}},
                                       {"_scale", {kSharedRows}, {}},
                                       {"_scale", {kSharedRows, 1}, {}},
                                       {"_scale_inv", {3, 3}, {}},
                                       {"_scale_inv", {30, 1, 10, 1}, BlockSize{.rows = 10, .cols = 29}}};
  for (const Scales& layout : layouts) {
    MemorySource source;
    for (const std::string name : {"first.weight", "w.weight"}) {
      source.add(name, DType::kF8E4M3, {kSharedRows, kSharedCols});
      int64_t count = 1;
      for (const int64_t size : layout.shape) count *= size;
      std::vector<float> scales;
      for (int64_t i = 0; i < count; ++i) scales.push_back(0.5F + static_cast<float>(i));
      source.add(name + layout.suffix, DType::kF32, layout.shape, scales);
    }
    source.add("w.bias", DType::kBF16, {kSharedRows});
    for (const Cuts& cuts : all_cuts()) {
      expect_shards_of_the_whole(source, rule_of(Granularity::kChannel), cuts,
                                 {.tile_bytes = 5000, .scale_block = layout.block});
    }
  }
}

TEST(SharedScales, RandomWeightsAreCutLikeThoseOfAFile) {
  const Shard whole({}, {});
  const DummyWeights source(whole.model.parameters, DType::kBF16);
  for (const Cuts& cuts : all_cuts())
    expect_shards_of_the_whole(source, rule_of(Granularity::kBlock), cuts, {});
}

TEST(SharedScales, ARankReadsItsOwnSliceAloneAndTwiceWhereAScaleCoversOtherRanks) {
  const int64_t slice_bytes = 2 * 300 * 145 * 2;
  const int64_t bias_bytes = 300 * 2;
  for (const auto& [granularity, passes] :
       {std::pair(Granularity::kTensor, 2), std::pair(Granularity::kChannel, 2)}) {
    ThreadPeers peers(2);
    peers.run([&](int rank, LoadPeers& mine) {
      const MemorySource source = weights_and_bias(DType::kBF16);
      Device device;
      Shard shard({.cols = IndexRange{rank * 145, rank * 145 + 145}}, rule_of(granularity));
      const LoadReport report = device.load(shard.model, source, {.peers = &mine});
      EXPECT_EQ(report.read_bytes, passes * slice_bytes + bias_bytes);
      EXPECT_EQ(source.read_bytes(), report.read_bytes);
    });
  }
  ThreadPeers peers(2);
  peers.run([&](int rank, LoadPeers& mine) {
    const MemorySource source = weights_and_bias(DType::kBF16);
    Device device;
    Shard shard({.rows = IndexRange{rank * 150, rank * 150 + 150}}, rule_of(Granularity::kChannel));
    const LoadReport report = device.load(shard.model, source, {.peers = &mine});
    EXPECT_EQ(report.read_bytes, 2 * 150 * 290 * 2 + 150 * 2);
  });
}

TEST(SharedScales, ASliceThatNeedsOtherRanksIsRefusedWithoutThem) {
  const MemorySource source = weights_and_bias(DType::kBF16);
  Device device;
  Shard shard({.rows = IndexRange{0, 150}}, rule_of(Granularity::kTensor));
  EXPECT_THAT(refusal<ArgumentError>([&] { device.load(shard.model, source); }),
              HasSubstr("tensor 'first.weight': a scale covers values of other ranks"));
  Shard rows({.rows = IndexRange{0, 150}}, rule_of(Granularity::kChannel));
  device.load(rows.model, source);
}

TEST(SharedScales, RanksThatLoadDifferentTensorsAreToldSo) {
  const MemorySource source = weights_and_bias(DType::kBF16);
  ThreadPeers peers(2);
  peers.run([&](int rank, LoadPeers& mine) {
    Device device;
    Shard shard({}, rule_of(Granularity::kChannel));
    if (rank == 1) shard.model.parameters.pop_back();
    EXPECT_THAT(refusal<ConfigError>([&] { device.load(shard.model, source, {.peers = &mine}); }),
                HasSubstr("one has 3, another 2"));
  });
}

}  // namespace
}  // namespace octet
