// SPDX-License-Identifier: Apache-2.0
#include "octet/loading/load_ahead.h"

#include <gtest/gtest.h>

#include "octet/loading/binding.h"
#include "tests/loading/load_rig.h"
#include "tests/loading/memory_source.h"
#include "tests/support/temp_folder.h"

namespace octet {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;

TEST(ReadAheadWindow, IsAQuarterOfWhatIsLeftUpToItsBoundAndNothingWhereLittleIs) {
  EXPECT_EQ(read_ahead_window(4000 * kMiB, 1000 * kMiB, 1), 128 * kMiB);
  EXPECT_EQ(read_ahead_window(1256 * kMiB, 1000 * kMiB, 1), 64 * kMiB);
  EXPECT_EQ(read_ahead_window(1063 * kMiB, 1000 * kMiB, 1), 0);
  EXPECT_EQ(read_ahead_window(900 * kMiB, 1000 * kMiB, 1), 0);
  EXPECT_EQ(read_ahead_window(2256 * kMiB, 1000 * kMiB, 2), 32 * kMiB);
  EXPECT_EQ(read_ahead_window(0, 1000 * kMiB, 1), 128 * kMiB);  // unknown
}

/// Says that every block is in one file, row after row, and writes down which were asked for.
class FileSource final : public WeightSource {
 public:
  FileSource(const WeightSource& inner, const FileReader& file) : inner_(inner), file_(file) {}
  [[nodiscard]] std::string describe() const override { return inner_.describe(); }
  [[nodiscard]] const std::vector<SourceTensor>& tensors() const override { return inner_.tensors(); }
  void read_rows(const SourceTensor& tensor, int64_t begin, int64_t end,
                 std::span<std::byte> into) const override {
    inner_.read_rows(tensor, begin, end, into);
  }
  [[nodiscard]] std::optional<FileExtent> extent(const SourceTensor& tensor, IndexRange rows,
                                                 IndexRange cols) const override {
    asked.push_back(tensor.name + " " + std::to_string(rows.begin) + ":" + std::to_string(rows.end) + " " +
                    std::to_string(cols.begin) + ":" + std::to_string(cols.end));
    return FileExtent{.file = &file_, .offset = 0, .length = rows.size() * cols.size()};
  }
  mutable std::vector<std::string> asked;

 private:
  const WeightSource& inner_;
  const FileReader& file_;
};

TEST(LoadAhead, FetchesWhatThePiecesOfThisRankReadAndLetsEveryTileThrough) {
  const TempFolder folder;
  const FileReader file(folder.write("a", std::string(1000, 'x')));
  MemorySource weights;
  weights.add("q.weight", DType::kBF16, {70, 33});
  weights.add("norm.weight", DType::kF32, {33});
  weights.add("unused.weight", DType::kF32, {5, 5});
  const FileSource source(weights, file);
  TestModel model;
  model.matrix({{"q.weight", 20}}, 33, {.quantize = true});
  model.cut_rows(0, {.begin = 30, .end = 50}, Shape{70, 33});
  model.vector({{"norm.weight", 33}});
  const Bindings bindings = bind_parameters(model.parameters, source, {}, {});
  LoadAhead ahead(source, bindings, kMiB);
  EXPECT_EQ(source.asked, (std::vector<std::string>{"q.weight 30:50 0:33", "norm.weight 0:33 0:1"}));
  ahead.wait_for({.piece = 1, .begin = 0, .end = 33});
  ahead.wait_for({.piece = 0, .begin = 10, .end = 20});
}

TEST(LoadAhead, ASourceWithoutFilesOrMemoryForAWindowIsReadAsItIs) {
  MemorySource weights;
  weights.add("q.weight", DType::kBF16, {70, 33});
  TestModel model;
  model.matrix({{"q.weight", 70}}, 33, {.quantize = true});
  const Bindings bindings = bind_parameters(model.parameters, weights, {}, {});
  for (const int64_t window : {int64_t{0}, kMiB}) {
    LoadAhead ahead(weights, bindings, window);
    ahead.wait_for({.piece = 0, .begin = 0, .end = 70});
  }
}

}  // namespace
}  // namespace octet
