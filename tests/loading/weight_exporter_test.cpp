// SPDX-License-Identifier: Apache-2.0
#include "octet/loading/weight_exporter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "octet/base/file_reader.h"
#include "octet/checkpoint/checkpoint.h"
#include "tests/loading/load_rig.h"
#include "tests/support/temp_folder.h"

namespace octet {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kWholeCols = 300;
const std::vector<TestModel::Member> kMembers = {{"q.weight", 130}, {"k.weight", 7}, {"v.weight", 256}};

MemorySource source_of() {
  MemorySource source;
  for (const TestModel::Member& member : kMembers)
    source.add(member.name, DType::kBF16, {member.rows, kWholeCols});
  source.add("norm.weight", DType::kF32, {kWholeCols});
  source.add("other.weight", DType::kBF16, {9, 5});
  return source;
}

/// The source as a model: one merged matrix, one vector; `other.weight` belongs to nobody.
struct Rig {
  explicit Rig(const StorageRule& rule) : matrix(model.matrix(kMembers, kWholeCols, rule)) {
    model.vector({{"norm.weight", kWholeCols}});
  }
  TestModel model;
  StoredMatrix& matrix;
};

std::string export_of(const StorageRule& rule, const MemorySource& source, int threads, int64_t tile_bytes,
                      const std::filesystem::path& folder) {
  Device device(MatrixLayout::kLanes64, threads);
  Rig rig(rule);
  LoadOptions load;
  load.compute_dtype = DType::kF32;
  load.tile_bytes = tile_bytes;
  WeightExporter exporter({.backend = device.backend,
                           .source = source,
                           .parameters = rig.model.parameters,
                           .load = load,
                           .options = {.format = ExportFormat::kRaw}});
  const LoadReport report = exporter.write(folder);
  EXPECT_LE(report.peak_bytes, report.predicted_peak_bytes);
  EXPECT_EQ(report.final_bytes, 0);
  EXPECT_EQ(device.ledger.current(), 0);
  EXPECT_TRUE(rig.matrix.matrix.empty());
  return read_text_file(folder / "model.safetensors");
}

std::vector<std::byte> bytes_in(const Checkpoint& checkpoint, const std::string& name) {
  const TensorInfo* info = checkpoint.find(name);
  if (info == nullptr) return {};
  std::vector<std::byte> bytes(static_cast<size_t>(info->bytes));
  checkpoint.read_bytes(*info, 0, bytes);
  return bytes;
}

TEST(WeightExporter, WritesTheCodesAndScalesOfTheLoaderMemberByMember) {
  const MemorySource source = source_of();
  for (const StorageRule& rule : all_rules()) {
    SCOPED_TRACE(describe(rule));
    const TempFolder folder;
    (void)export_of(rule, source, 1, 1 << 20, folder.path());
    const Checkpoint checkpoint(folder.path());
    Device device;
    Rig rig(rule);
    LoadOptions load;
    load.compute_dtype = DType::kF32;
    device.load(rig.model, source, load);
    std::vector<std::byte> codes;
    std::vector<std::byte> scales;
    for (const TestModel::Member& member : kMembers) {
      const auto weight = bytes_in(checkpoint, member.name);
      const auto scale = bytes_in(checkpoint, member.name + "_scale");
      codes.insert(codes.end(), weight.begin(), weight.end());
      scales.insert(scales.end(), scale.begin(), scale.end());
    }
    EXPECT_EQ(codes, device.codes(rig.matrix));
    const auto expected = Device::scales(rig.matrix);
    const auto expected_bytes = std::as_bytes(std::span(expected));
    EXPECT_EQ(scales, std::vector(expected_bytes.begin(), expected_bytes.end()));
    EXPECT_EQ(bytes_in(checkpoint, "norm.weight"), source.bytes("norm.weight"));
    EXPECT_EQ(bytes_in(checkpoint, "other.weight"), source.bytes("other.weight"));
  }
}

TEST(WeightExporter, WritesTheSameBytesForAnySizeOfTilesAndNumberOfThreads) {
  const MemorySource source = source_of();
  for (const StorageRule& rule : all_rules()) {
    SCOPED_TRACE(describe(rule));
    const TempFolder folder;
    const std::string expected = export_of(rule, source, 1, 1 << 20, folder.path());
    for (const int threads : {1, 3}) {
      for (const int64_t tile_bytes : {1, 5'000, 60'000})
        EXPECT_EQ(export_of(rule, source, threads, tile_bytes, folder.path()), expected);
    }
  }
}

TEST(WeightExporter, StopsWhenItIsAsked) {
  const MemorySource source = source_of();
  Device device;
  Rig rig(rule_of(Granularity::kChannel));
  LoadOptions load;
  load.progress = [](const LoadProgress&) { return false; };
  const TempFolder folder;
  WeightExporter exporter({.backend = device.backend,
                           .source = source,
                           .parameters = rig.model.parameters,
                           .load = load,
                           .options = {.format = ExportFormat::kRaw}});
  EXPECT_THROW((void)exporter.write(folder.path()), Interrupted);
}

TEST(WeightExporter, RefusesTheShareOfOneRank) {
  const MemorySource source = source_of();
  Device device;
  Rig rig(rule_of(Granularity::kChannel));
  std::vector<Parameter> parameters = rig.model.parameters;
  parameters.back().slice.rows = IndexRange{.begin = 0, .end = kWholeCols / 2};
  std::get<StoredVector*>(parameters.back().destination)->size = kWholeCols / 2;
  EXPECT_THAT(refusal<ArgumentError>([&] {
                WeightExporter exporter({.backend = device.backend,
                                         .source = source,
                                         .parameters = parameters,
                                         .load = {},
                                         .options = {.format = ExportFormat::kRaw}});
              }),
              HasSubstr("not of one rank's share: norm.weight"));
}

}  // namespace
}  // namespace octet
