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
  void read_rows(const SourceTensor& /*tensor*/, int64_t /*begin*/, int64_t /*end*/,
                 std::span<std::byte> /*into*/) const override {}

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

TEST(TileGeometry, MoreThreadsThanTheBudgetHasTilesForWorkWithFewerBuffers) {
  const TileGeometry crowd = geometry_of(100'000, 4 << 20, 1024);
  EXPECT_LT(crowd.workers, 1024);
  EXPECT_GT(crowd.workers, 64);
  EXPECT_LE(crowd.total_bytes(), kLoadingBudget);
}

}  // namespace
}  // namespace octet
