// SPDX-License-Identifier: Apache-2.0
#include "octet/loading/tile_geometry.h"

#include <gtest/gtest.h>

#include "tests/loading/memory_source.h"

namespace octet {
namespace {

/// One BF16 matrix of rows x 512 (1 KiB each) without its bytes.
class Header final : public WeightSource {
 public:
  explicit Header(int64_t rows)
      : tensors_{{.name = "a.weight", .dtype = DType::kBF16, .shape = {rows, 512}, .file = "a", .index = 0}} {
  }
  [[nodiscard]] std::string describe() const override { return "model"; }
  [[nodiscard]] const std::vector<SourceTensor>& tensors() const override { return tensors_; }
  [[nodiscard]] std::optional<FileExtent> extent(const SourceTensor& tensor, IndexRange /*rows*/,
                                                 IndexRange /*cols*/) const override {
    return in_files ? std::optional(FileExtent{.length = tensor.bytes()}) : std::nullopt;
  }
  bool in_files = true;
  void read_rows(const SourceTensor& /*tensor*/, int64_t /*begin*/, int64_t /*end*/,
                 std::span<std::byte> /*into*/) const override {}

  void widen(int64_t row_bytes) { tensors_.front().shape[1] = row_bytes / 2; }

 private:
  std::vector<SourceTensor> tensors_;
};

TileGeometry geometry_of(int64_t rows, int64_t tile_bytes, int threads) {
  const Header header(rows);
  TestModel model;
  model.matrix({{"a.weight", rows}}, 512, {.quantize = true});
  const LoadOptions options{.tile_bytes = tile_bytes};
  return tile_geometry(bind_parameters(model.parameters, header, options, {}), options, threads);
}

TEST(TileGeometry, ATileIsAsLargeAsAskedButNeverLessThanARowNorMoreThanTheTensor) {
  EXPECT_EQ(geometry_of(100'000, 1 << 20, 1).tile_bytes, 1 << 20);
  EXPECT_EQ(geometry_of(100'000, 1, 1).tile_bytes, 1024);
  EXPECT_EQ(geometry_of(10, 1 << 20, 1).tile_bytes, 10 * 1024);
}

TEST(TileGeometry, ManyThreadsShareTheBudgetInSmallerTiles) {
  const TileGeometry few = geometry_of(100'000, 4 << 20, 4);
  EXPECT_EQ(few.workers, 4);
  EXPECT_EQ(few.tile_bytes, 4 << 20);
  const TileGeometry many = geometry_of(100'000, 4 << 20, 64);
  EXPECT_EQ(many.workers, 64);
  EXPECT_LT(many.tile_bytes, 1 << 20);
  EXPECT_LE(many.total_bytes(), kLoadingBudget);
}

TileGeometry streamed(const Header& header, const StorageRule& rule, int threads, LoadOptions options = {}) {
  TestModel model;
  model.matrix({{"a.weight", header.tensors().front().rows()}}, 512, rule);
  return load_geometry(bind_parameters(model.parameters, header, options, {}), header, options, threads);
}

TEST(TileGeometry, ALoadFromFilesHasASlotForEveryWorkerAndSomeToReadIntoWithinTheBudget) {
  const Header header(100'000);
  const StorageRule rows = {.quantize = true};
  for (const int threads : {1, 2, 8, 14}) {
    const TileGeometry geometry = streamed(header, rows, threads);
    EXPECT_EQ(geometry.workers, threads);
    EXPECT_GT(geometry.slots, threads);
    EXPECT_GE(geometry.tile_bytes, 1 << 20);
    EXPECT_LE(geometry.total_bytes(), kLoadingBudget);
  }
  EXPECT_EQ(streamed(header, rows, 2).slots, 4);
  EXPECT_EQ(streamed(header, rows, 2, {.tile_bytes = 4096}).tile_bytes, 4096);
}

TEST(TileGeometry, AWideRowLeavesSlotsForOneWorkerOrNone) {
  Header header(10);
  const auto geometry_of_wide = [&](int64_t row_bytes) {
    header.widen(row_bytes);
    TestModel wide;
    wide.matrix({{"a.weight", 10}}, row_bytes / 2, {.quantize = true});
    return load_geometry(bind_parameters(wide.parameters, header, {}, {}), header, {}, 4);
  };
  EXPECT_EQ(geometry_of_wide(int64_t{9} << 20).workers, 1);
  EXPECT_EQ(geometry_of_wide(int64_t{9} << 20).slots, 2);
  EXPECT_EQ(geometry_of_wide(int64_t{20} << 20).slots, 0);
  EXPECT_LE(geometry_of_wide(int64_t{9} << 20).total_bytes(), kLoadingBudget);
}

TEST(TileGeometry, NothingWaitsInSlotsWhereThePageCacheIsToBeUsed) {
  Header header(100'000);
  const StorageRule rows = {.quantize = true};
  EXPECT_EQ(streamed(header, rows, 2, {.drop_page_cache = false}).slots, 0);
  EXPECT_GT(streamed(header, rows, 2, {.drop_page_cache = true}).slots, 0);
  EXPECT_EQ(streamed(header, rows, 64).slots, 0);  // tiles too small for the disk
  EXPECT_EQ(streamed(header, {.quantize = true, .granularity = Granularity::kTensor}, 2).slots, 0);
  EXPECT_GT(streamed(header, {.quantize = true, .granularity = Granularity::kBlock}, 2).slots, 0);
  EXPECT_EQ(
      streamed(header, {.quantize = true, .raw_cast = true, .granularity = Granularity::kTensor}, 2).slots,
      4);
  header.in_files = false;
  EXPECT_EQ(streamed(header, rows, 2).slots, 0);
}

TEST(TileGeometry, MoreThreadsThanTheBudgetHasTilesForWorkWithFewerBuffers) {
  const TileGeometry crowd = geometry_of(100'000, 4 << 20, 1024);
  EXPECT_LT(crowd.workers, 1024);
  EXPECT_GT(crowd.workers, 64);
  EXPECT_LE(crowd.total_bytes(), kLoadingBudget);
}

}  // namespace
}  // namespace octet
