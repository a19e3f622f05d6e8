// SPDX-License-Identifier: Apache-2.0
#include "octet/loading/weight_digest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/loading/load_rig.h"

namespace octet {
namespace {

std::string sha_of(std::span<const std::byte> bytes) {
  Sha256 sha;
  sha.add(bytes);
  return sha.finish();
}

TEST(Sha256, KnowsTheVectorsOfItsStandard) {
  EXPECT_EQ(sha_of({}), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  const std::string abc = "abc";
  EXPECT_EQ(sha_of(std::as_bytes(std::span(abc))),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(WeightDigests, AreOfCodesRowByRowAndThenOfScalesWhateverTheLayoutAndTheMerging) {
  for (const StorageRule& rule : all_rules()) {
    SCOPED_TRACE(describe(rule));
    MemorySource source;
    source.add("q.weight", DType::kBF16, {131, 150});
    source.add("k.weight", DType::kBF16, {70, 150});
    source.add("norm.weight", DType::kF32, {9});
    Device device;
    TestModel apart;
    const StoredMatrix& q = apart.matrix({{"q.weight", 131}}, 150, rule);
    apart.matrix({{"k.weight", 70}}, 150, rule);
    apart.vector({{"norm.weight", 9}});
    device.load(apart, source, {.compute_dtype = DType::kF32});
    const auto expected = weight_digests(device.backend, apart.parameters);
    std::vector<std::byte> bytes = device.codes(q);
    const std::vector<float> scales = Device::scales(q);
    const auto scale_bytes = std::as_bytes(std::span(scales));
    bytes.insert(bytes.end(), scale_bytes.begin(), scale_bytes.end());
    ASSERT_EQ(expected.size(), 3U);
    EXPECT_EQ(expected[0].name, "q.weight");
    EXPECT_EQ(expected[0].sha256, sha_of(bytes));
    EXPECT_EQ(expected[2].sha256, sha_of(source.bytes("norm.weight")));

    Device other(MatrixLayout::kLanes64, 2);
    TestModel merged;
    merged.matrix({{"q.weight", 131}, {"k.weight", 70}}, 150, rule);
    merged.vector({{"norm.weight", 9}});
    other.load(merged, source, {.compute_dtype = DType::kF32});
    const auto found = weight_digests(other.backend, merged.parameters);
    for (size_t i = 0; i < 3; ++i) {
      EXPECT_EQ(found[i].name, expected[i].name);
      EXPECT_EQ(found[i].sha256, expected[i].sha256);
    }
    EXPECT_EQ(model_digest(found), model_digest({expected[2], expected[0], expected[1]}));
  }
}

TEST(WeightDigests, OneBitMakesAnother) {
  MemorySource source;
  source.add("w.weight", DType::kBF16, {2, 3}, {1, 2, 3, 4, 5, 6});
  MemorySource changed;
  changed.add("w.weight", DType::kBF16, {2, 3}, {1, 2, 3, 4, 5, 7});
  const auto digest = [](const MemorySource& from) {
    Device device;
    TestModel model;
    model.matrix({{"w.weight", 2}}, 3, {});
    device.load(model, from);
    return weight_digests(device.backend, model.parameters)[0].sha256;
  };
  EXPECT_NE(digest(source), digest(changed));
  EXPECT_EQ(digest(source), digest(source));
}

}  // namespace
}  // namespace octet
