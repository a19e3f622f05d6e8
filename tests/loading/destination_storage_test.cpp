// SPDX-License-Identifier: Apache-2.0
// Loads into destinations that hold weights already, and loads that fail at any point.
#include "octet/loading/destination_storage.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/loading/load_rig.h"
#include "tests/loading/thread_peers.h"
#include "tests/loading/watched_source.h"

namespace octet {
namespace {

using testing::AllOf;
using testing::HasSubstr;

MemorySource weights(float factor) {
  MemorySource source;
  auto values = normal_values(150, 40, 3);
  for (float& value : values) value *= factor;
  source.add("a.weight", DType::kBF16, {150, 40}, values);
  source.add("b.weight", DType::kBF16, {9, 40}, std::vector<float>(values.begin(), values.begin() + 360));
  source.add("norm", DType::kBF16, {40}, std::vector<float>(values.begin(), values.begin() + 40));
  return source;
}

struct Loaded {
  explicit Loaded(const StorageRule& rule, const MemorySource& source) {
    matrix = &model.matrix({{"a.weight", 150}, {"b.weight", 9}}, 40, rule);
    vector = &model.vector({{"norm", 40}});
    device.load(model, source);
  }
  std::vector<std::byte> bytes() {
    std::vector<std::byte> all = device.codes(*matrix);
    const std::vector<float> scales = Device::scales(*matrix);
    const auto more = std::as_bytes(std::span(scales));
    all.insert(all.end(), more.begin(), more.end());
    const std::byte* norm = vector->tensor.view().data();
    all.insert(all.end(), norm, norm + vector->tensor.bytes());
    return all;
  }
  Device device{MatrixLayout::kLanes64};
  TestModel model;
  StoredMatrix* matrix = nullptr;
  StoredVector* vector = nullptr;
};

TEST(Reload, InPlaceUsesTheSameMemoryAndAtomicASecondCopyAndBothGiveTheBytesOfALoad) {
  for (const StorageRule& rule : all_rules()) {
    SCOPED_TRACE(describe(rule));
    const MemorySource next = weights(3.0F);
    const MemorySource other = weights(7.0F);
    const auto expected = Loaded(rule, next).bytes();
    for (const LoadInto into : {LoadInto::kInPlace, LoadInto::kSecondCopy}) {
      Loaded live(rule, weights(1.0F));
      const int64_t before = live.device.ledger.current();
      const std::byte* data = live.matrix->matrix.view().data;
      for (int round = 0; round < 3; ++round) {
        const LoadReport report = live.device.load(live.model, round == 1 ? other : next, {.into = into});
        EXPECT_LE(report.peak_bytes, report.predicted_peak_bytes);
        EXPECT_GE(report.peak_bytes, into == LoadInto::kSecondCopy ? before : 0);
      }
      EXPECT_EQ(live.matrix->matrix.view().data == data, into == LoadInto::kInPlace);
      EXPECT_EQ(live.bytes(), expected);
      EXPECT_EQ(live.device.ledger.current(), before);
    }
  }
}

TEST(Reload, AFailureLeavesTheOldWeightsWhereTheyHaveASecondCopyAndCanBeMadeGoodInPlace) {
  const StorageRule rule = rule_of(Granularity::kChannel);
  const MemorySource next = weights(3.0F);
  const WatchedSource failing(next, [](const SourceTensor& tensor, int64_t) {
    if (tensor.name == "norm") throw FormatError("the disk fails");
  });
  const auto expected = Loaded(rule, next).bytes();
  for (const LoadInto into : {LoadInto::kInPlace, LoadInto::kSecondCopy}) {
    Loaded live(rule, weights(1.0F));
    const auto old = live.bytes();
    const int64_t held = live.device.ledger.current();
    WeightLoader loader(live.device.backend, live.model.parameters, {.into = into});
    EXPECT_EQ(refusal<FormatError>([&] { loader.pull(failing); }), "the disk fails");
    EXPECT_TRUE(loader.began_writing());
    EXPECT_EQ(live.bytes() == old, into == LoadInto::kSecondCopy);
    EXPECT_EQ(live.device.ledger.current(), held);
    loader.pull(next);
    EXPECT_EQ(live.bytes(), expected);
  }
}

TEST(Reload, WhatHeadersShowIsRefusedBeforeAnythingIsWritten) {
  Loaded live(rule_of(Granularity::kChannel), weights(1.0F));
  const auto old = live.bytes();
  WeightLoader loader(live.device.backend, live.model.parameters, {.into = LoadInto::kInPlace});
  MemorySource fp8;
  fp8.add("a.weight", DType::kF8E4M3, {150, 40});
  fp8.add("b.weight", DType::kF8E4M3, {9, 40});
  fp8.add("norm", DType::kBF16, {40});
  EXPECT_THAT(
      refusal<FormatError>([&] { loader.pull(fp8); }),
      AllOf(HasSubstr("is held as F8_E4M3 [159, 40] with 159 scales and would become F8_E4M3 [159, 40]"),
            HasSubstr("reload with atomic")));
  EXPECT_FALSE(loader.began_writing());
  EXPECT_EQ(live.bytes(), old);
  Loaded other(rule_of(Granularity::kChannel), weights(1.0F));
  other.device.load(other.model, fp8, {.into = LoadInto::kSecondCopy});
  EXPECT_EQ(other.matrix->matrix.spec().scale_kind, ScaleKind::kNone);
}

TEST(Reload, APartialLoadLeavesDestinationsAloneThatTheSourceHasNothingOf) {
  const MemorySource all = weights(3.0F);
  MemorySource norm;
  norm.add("norm", DType::kBF16, {40}, all.bytes("norm"));
  for (const LoadInto into : {LoadInto::kInPlace, LoadInto::kSecondCopy}) {
    Loaded live(rule_of(Granularity::kBlock), weights(1.0F));
    const auto codes = live.device.codes(*live.matrix);
    EXPECT_THAT(refusal<FormatError>([&] { live.device.load(live.model, norm, {.into = into}); }),
                HasSubstr("missing tensor 'a.weight'"));
    live.device.load(live.model, norm, {.into = into, .partial = true});
    EXPECT_EQ(live.device.codes(*live.matrix), codes);
    EXPECT_EQ(std::memcmp(live.vector->tensor.view().data(), all.bytes("norm").data(), 80), 0);
  }
}

TEST(Reload, PushedWeightsGoTheSameWays) {
  const MemorySource next = weights(3.0F);
  for (const StorageRule& rule : all_rules()) {
    const auto expected = Loaded(rule, next).bytes();
    for (const LoadInto into : {LoadInto::kInPlace, LoadInto::kSecondCopy}) {
      Loaded live(rule, weights(1.0F));
      const auto old = live.bytes();
      WeightLoader loader(live.device.backend, live.model.parameters, {.into = into});
      const auto push = [&](const std::string& name) {
        for (const SourceTensor& tensor : next.tensors()) {
          if (tensor.name == name)
            loader.push(
                {.name = name, .dtype = tensor.dtype, .shape = tensor.shape, .bytes = next.bytes(name)});
        }
      };
      loader.begin();
      EXPECT_FALSE(loader.began_writing());
      push("a.weight");
      EXPECT_EQ(live.bytes() == old, into == LoadInto::kSecondCopy);
      EXPECT_THAT(refusal<FormatError>([&] { loader.finish(); }), HasSubstr("missing tensor 'b.weight'"));
      EXPECT_TRUE(loader.began_writing());
      EXPECT_EQ(live.bytes() == old, into == LoadInto::kSecondCopy);
      loader.begin();
      for (const char* name : {"norm", "b.weight", "a.weight"}) push(name);
      loader.finish();
      EXPECT_EQ(live.bytes(), expected);
    }
  }
}

class FailingAllocator final : public Allocator {
 public:
  void* allocate(int64_t bytes) override {
    if (--left == 0) throw DeviceError("out of memory");
    return host_.allocate(bytes);
  }
  void release(void* data, int64_t bytes) noexcept override { host_.release(data, bytes); }
  int left = 0;

 private:
  HostAllocator host_;
};

class FailingBackend final : public ReferenceBackend {
 public:
  using ReferenceBackend::ReferenceBackend;
  [[nodiscard]] Allocator& allocator() override { return failing; }
  FailingAllocator failing;
};

TEST(FaultSweep, AnyReadThatFailsEndsTheLoadWithOneErrorAndHoldsNothing) {
  const MemorySource source = weights(1.0F);
  for (const Granularity granularity : {Granularity::kTensor, Granularity::kChannel, Granularity::kBlock}) {
    for (const int threads : {1, 3}) {
      int fail_at = 1;
      for (bool failed = true; failed; ++fail_at) {
        Device device(MatrixLayout::kRowMajor, threads);
        TestModel model;
        const StoredMatrix& matrix =
            model.matrix({{"a.weight", 150}, {"b.weight", 9}}, 40, rule_of(granularity));
        const StoredVector& vector = model.vector({{"norm", 40}});
        FailAt fail(fail_at);
        const WatchedSource counting(source, [&](const SourceTensor&, int64_t) { fail(); });
        const std::string message =
            refusal<FormatError>([&] { device.load(model, counting, {.tile_bytes = 800}); });
        failed = fail.failed();
        EXPECT_EQ(message, failed ? "a.safetensors: reading failed" : "accepted");
        if (!failed) continue;
        EXPECT_EQ(device.ledger.current(), 0);
        EXPECT_TRUE(matrix.matrix.empty());
        EXPECT_TRUE(vector.tensor.empty());
      }
      EXPECT_GT(fail_at, 10);
    }
  }
}

TEST(FaultSweep, AnyReadThatFailsOnOneRankEndsTheLoadOnAll) {
  const MemorySource source = weights(1.0F);
  int fail_at = 1;
  for (bool failed = true; failed; ++fail_at) {
    ThreadPeers peers(2);
    std::vector<std::string> messages(2);
    std::atomic<bool> any{false};
    peers.run([&](int rank, LoadPeers& mine) {
      Device device;
      TestModel model;
      model.matrix({{"a.weight", 150}}, 20, rule_of(Granularity::kChannel));
      model.vector({{"norm", 40}});
      model.parameters[0].shape = Shape{150, 40};
      model.parameters[0].slice.cols = IndexRange{rank * 20, rank * 20 + 20};
      FailAt fail(rank == 1 ? fail_at : 1 << 20);
      const WatchedSource counting(source, [&](const SourceTensor&, int64_t) { fail(); });
      messages[static_cast<size_t>(rank)] =
          refusal<FormatError>([&] { device.load(model, counting, {.tile_bytes = 800, .peers = &mine}); });
      if (fail.failed()) any = true;
      EXPECT_EQ(device.ledger.current() == 0, messages[static_cast<size_t>(rank)] != "accepted");
    });
    failed = any;
    for (const std::string& message : messages)
      EXPECT_EQ(message, failed ? "rank 1: a.safetensors: reading failed" : "accepted");
  }
  EXPECT_GT(fail_at, 10);
}

TEST(FaultSweep, AnyAllocationThatFailsEndsALoadOrRefusesAPieceAndHoldsNothing) {
  const MemorySource source = weights(1.0F);
  for (const LoadInto into : {LoadInto::kEmpty, LoadInto::kSecondCopy}) {
    int fail_at = 1;
    for (bool failed = true; failed; ++fail_at) {
      MemoryLedger ledger;
      FailingBackend backend(ledger, MatrixLayout::kLanes64, 2);
      TestModel model;
      model.matrix({{"a.weight", 150}, {"b.weight", 9}}, 40, rule_of(Granularity::kTensor));
      model.vector({{"norm", 40}});
      if (into == LoadInto::kSecondCopy) WeightLoader(backend, model.parameters, {}).pull(source);
      const int64_t held = ledger.current();
      backend.failing.left = fail_at;
      const std::string message =
          refusal<DeviceError>([&] { WeightLoader(backend, model.parameters, {.into = into}).pull(source); });
      failed = backend.failing.left <= 0;
      EXPECT_EQ(message, failed ? "out of memory" : "accepted");
      EXPECT_EQ(ledger.current() == held, failed || into == LoadInto::kSecondCopy);
    }
    EXPECT_GT(fail_at, 3);
  }
  for (int fail_at = 1; fail_at < 3; ++fail_at) {
    MemoryLedger ledger;
    FailingBackend backend(ledger, MatrixLayout::kRowMajor);
    TestModel model;
    const StoredMatrix& matrix = model.matrix({{"a.weight", 150}, {"b.weight", 9}}, 40, {.quantize = true});
    WeightLoader loader(backend, model.parameters, {});
    loader.begin();
    backend.failing.left = fail_at;
    const TensorPiece a{
        .name = "a.weight", .dtype = DType::kBF16, .shape = {150, 40}, .bytes = source.bytes("a.weight")};
    EXPECT_EQ(refusal<DeviceError>([&] { loader.push(a); }), "out of memory");
    EXPECT_EQ(ledger.current(), 0);
    loader.push(a);
    loader.push(
        {.name = "b.weight", .dtype = DType::kBF16, .shape = {9, 40}, .bytes = source.bytes("b.weight")});
    loader.finish();
    EXPECT_FALSE(matrix.matrix.empty());
  }
}

}  // namespace
}  // namespace octet
