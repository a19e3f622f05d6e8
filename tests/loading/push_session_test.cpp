// SPDX-License-Identifier: Apache-2.0
#include "octet/loading/push_session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <thread>

#include "tests/loading/load_rig.h"

namespace octet {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

constexpr int64_t kHeight = 200;
constexpr int64_t kWidth = 150;
constexpr int64_t kPlenty = int64_t{1} << 30;

/// A piece of a tensor with bytes of its own.
struct OwnedPiece {
  TensorPiece piece;
  std::vector<std::byte> bytes;
};

OwnedPiece cut(const MemorySource& source, const SourceTensor& tensor, IndexRange rows, IndexRange cols) {
  OwnedPiece owned;
  owned.bytes.resize(static_cast<size_t>(rows.size() * cols.size() * dtype_size(tensor.dtype)));
  source.read_block(tensor, rows, cols, owned.bytes);
  owned.piece = {
      .name = tensor.name, .dtype = tensor.dtype, .shape = tensor.shape, .rows = rows, .cols = cols};
  return owned;
}
OwnedPiece whole(const MemorySource& source, const std::string& name) {
  for (const SourceTensor& tensor : source.tensors()) {
    if (tensor.name != name) continue;
    OwnedPiece owned{.piece = {.name = name, .dtype = tensor.dtype, .shape = tensor.shape},
                     .bytes = source.bytes(name)};
    return owned;
  }
  throw std::runtime_error("no tensor " + name);
}
void push(WeightLoader& loader, OwnedPiece piece) {
  piece.piece.bytes = piece.bytes;
  loader.push(piece.piece);
}

/// Cuts a rectangle at random places until its parts are small enough.
void shatter(const MemorySource& source, const SourceTensor& tensor, const Rectangle& place,
             std::mt19937& random, std::vector<OwnedPiece>& pieces) {
  const bool stop = place.elements() <= 1 || random() % 100 < (place.elements() < 3000 ? 60 : 5);
  if (stop) return pieces.push_back(cut(source, tensor, place.rows, place.cols));
  const bool by_rows = place.cols.size() == 1 || (place.rows.size() > 1 && random() % 2 == 0);
  const IndexRange range = by_rows ? place.rows : place.cols;
  const int64_t middle =
      range.begin + 1 + static_cast<int64_t>(random() % static_cast<unsigned>(range.size() - 1));
  Rectangle first = place;
  Rectangle second = place;
  (by_rows ? first.rows : first.cols).end = middle;
  (by_rows ? second.rows : second.cols).begin = middle;
  shatter(source, tensor, first, random, pieces);
  shatter(source, tensor, second, random, pieces);
}
std::vector<OwnedPiece> shattered(const MemorySource& source, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<OwnedPiece> pieces;
  for (const SourceTensor& tensor : source.tensors())
    shatter(source, tensor, {.rows = {0, tensor.rows()}, .cols = {0, tensor.cols()}}, random, pieces);
  std::shuffle(pieces.begin(), pieces.end(), random);
  return pieces;
}

void push_all(WeightLoader& loader, const std::vector<OwnedPiece>& pieces, int threads) {
  std::atomic<size_t> next{0};
  std::vector<std::thread> workers;
  for (int i = 0; i < threads; ++i) {
    workers.emplace_back([&] {
      for (size_t p = next++; p < pieces.size(); p = next++) push(loader, pieces[p]);
    });
  }
  for (std::thread& worker : workers) worker.join();
}

struct PushModel {
  explicit PushModel(const StorageRule& rule) {
    matrix = &model.matrix({{"a.weight", kHeight}, {"b.weight", 9}}, kWidth, rule);
    vector = &model.vector({{"bias", 30}, {"more.bias", 5}});
  }
  TestModel model;
  StoredMatrix* matrix = nullptr;
  StoredVector* vector = nullptr;
};

MemorySource weights(DType dtype = DType::kBF16) {
  MemorySource source;
  source.add("a.weight", dtype, {kHeight, kWidth});
  source.add("b.weight", dtype, {9, kWidth});
  source.add("bias", DType::kBF16, {30});
  source.add("more.bias", DType::kBF16, {5});
  return source;
}

/// The bytes that `model` holds.
std::vector<std::byte> stored(Device& device, const PushModel& model) {
  std::vector<std::byte> bytes = device.codes(*model.matrix);
  const auto append = [&](const void* data, int64_t count) {
    const auto* begin = static_cast<const std::byte*>(data);
    bytes.insert(bytes.end(), begin, begin + count);
  };
  const MatrixSpec& spec = model.matrix->matrix.spec();
  append(model.matrix->matrix.view().scales, spec.scale_count() * 4);
  append(model.vector->tensor.view().data(), model.vector->tensor.bytes());
  return bytes;
}

TEST(PushSession, RandomPiecesInRandomOrderOnSeveralThreadsGiveTheBytesOfAPull) {
  const MemorySource source = weights();
  unsigned seed = 1;
  for (const StorageRule& rule : all_rules()) {
    SCOPED_TRACE(describe(rule));
    Device device;
    PushModel pulled(rule);
    const LoadReport expected = device.load(pulled.model, source);
    const auto bytes = stored(device, pulled);
    for (const int threads : {1, 4}) {
      Device other(MatrixLayout::kLanes64);
      PushModel pushed(rule);
      WeightLoader loader(other.backend, pushed.model.parameters, {.max_pending_bytes = kPlenty});
      loader.begin();
      EXPECT_EQ(other.ledger.current(), 0) << "nothing is taken before the first piece";
      push_all(loader, shattered(source, seed++), threads);
      const LoadReport report = loader.finish();
      EXPECT_EQ(stored(other, pushed), bytes);
      EXPECT_EQ(report.final_bytes, report.predicted_final_bytes);
      EXPECT_EQ(other.ledger.current("loading"), 0);
      EXPECT_EQ(report.read_bytes, expected.weights[0].elements * 2 + 9 * kWidth * 2 + 35 * 2);
      ASSERT_EQ(report.weights.size(), 4U);
      for (const WeightRecord& record : report.weights) {
        if (record.name != "a.weight") continue;
        EXPECT_EQ(record.stats.elements, rule.quantize ? kHeight * kWidth : 0);
        EXPECT_EQ(record.stats.zeroed, expected.weights[0].stats.zeroed);
        EXPECT_NEAR(record.stats.noise, expected.weights[0].stats.noise,
                    1e-6 * expected.weights[0].stats.noise);
      }
    }
  }
}

TEST(PushSession, UnderRanksEveryRankTakesItsSliceOfEveryPiece) {
  const MemorySource source = weights(DType::kF32);
  unsigned seed = 100;
  for (const StorageRule& rule : all_rules()) {
    SCOPED_TRACE(describe(rule));
    Device device;
    PushModel one(rule);
    device.load(one.model, source);
    const QuantMatrixView expected = one.matrix->matrix.view();
    for (const Rectangle& slice : {Rectangle{{0, 77}, {0, kWidth}}, Rectangle{{77, kHeight}, {0, kWidth}},
                                   Rectangle{{0, kHeight}, {0, 100}}, Rectangle{{0, kHeight}, {100, kWidth}},
                                   Rectangle{{kHeight, kHeight}, {0, kWidth}}}) {
      Device own(MatrixLayout::kLanes64);
      TestModel model;
      StoredMatrix& matrix = model.matrix({{"a.weight", slice.rows.size()}}, slice.cols.size(), rule);
      model.parameters[0].shape = Shape{kHeight, kWidth};
      model.parameters[0].slice = {.rows = slice.rows, .cols = slice.cols};
      WeightLoader loader(own.backend, model.parameters, {.max_pending_bytes = kPlenty});
      loader.begin();
      push_all(loader, shattered(source, seed++), 2);
      loader.finish();
      const QuantMatrixView found = matrix.matrix.view();
      int64_t differing = 0;
      for (int64_t r = 0; r < slice.rows.size(); ++r) {
        for (int64_t c = 0; c < slice.cols.size(); ++c) {
          const int64_t row = slice.rows.begin + r;
          const int64_t col = slice.cols.begin + c;
          differing += *found.element(r, c) != *expected.element(row, col) ? 1 : 0;
          differing += found.scale(r, c) != expected.scale(row, col) ? 1 : 0;
        }
      }
      EXPECT_EQ(differing, 0);
    }
  }
}

TEST(PushSession, WholeRowsRawCastsGivenScalesAndPlainWeightsNeverWait) {
  const auto never_waits = [](const MemorySource& source, const StorageRule& rule, int64_t rows_at_once) {
    Device device;
    PushModel model(rule);
    WeightLoader loader(device.backend, model.model.parameters, {.max_pending_bytes = 0});
    loader.begin(source.tensors());
    for (const SourceTensor& tensor : source.tensors()) {
      for (int64_t row = 0; row < tensor.rows(); row += rows_at_once)
        push(loader,
             cut(source, tensor, {row, std::min(tensor.rows(), row + rows_at_once)}, {0, tensor.cols()}));
    }
    const LoadReport report = loader.finish();
    EXPECT_EQ(report.peak_bytes, report.final_bytes);
  };
  never_waits(weights(), rule_of(Granularity::kChannel), 1);
  never_waits(weights(), {.quantize = true, .raw_cast = true}, 3);
  never_waits(weights(), {}, 3);
  never_waits(weights(), rule_of(Granularity::kBlock), 128);
  never_waits(weights(), rule_of(Granularity::kTensor), kHeight);
  MemorySource fp8 = weights(DType::kF8E4M3);
  fp8.add("a.weight_scale", DType::kF32, {kHeight});
  fp8.add("b.weight_scale", DType::kF32, {}, std::vector<float>{0.5F});
  MemorySource positive;
  for (const SourceTensor& tensor : fp8.tensors()) {
    std::vector<std::byte> bytes = fp8.bytes(tensor.name);
    if (tensor.name == "a.weight_scale") bytes = bytes_of(DType::kF32, std::vector<float>(kHeight, 0.25F));
    positive.add(tensor.name, tensor.dtype, tensor.shape, std::move(bytes));
  }
  never_waits(positive, rule_of(Granularity::kChannel), 7);
}

TEST(PushSession, CodesInFp8WaitForTheirScalesUnlessTheTensorsWereAnnounced) {
  MemorySource source;
  source.add("w.weight", DType::kF8E4M3, {4, 6});
  source.add("w.weight_scale", DType::kF32, {4}, std::vector<float>{1, 2, 3, 0.5F});
  for (const bool scales_first : {false, true}) {
    Device device;
    TestModel model;
    const StoredMatrix& matrix = model.matrix({{"w.weight", 4}}, 6, {.quantize = true});
    WeightLoader loader(device.backend, model.parameters, {.max_pending_bytes = 24});
    loader.begin();
    push(loader, whole(source, scales_first ? "w.weight_scale" : "w.weight"));
    EXPECT_EQ(device.ledger.current("loading"), scales_first ? 16 : 24);
    push(loader, whole(source, scales_first ? "w.weight" : "w.weight_scale"));
    EXPECT_EQ(device.ledger.current("loading"), 0);
    loader.finish();
    EXPECT_EQ(device.codes(matrix), source.bytes("w.weight"));
    EXPECT_THAT(Device::scales(matrix), ElementsAre(1, 2, 3, 0.5F));
  }
  Device device;
  TestModel model;
  model.matrix({{"w.weight", 4}}, 6, {.quantize = true});
  WeightLoader loader(device.backend, model.parameters, {.max_pending_bytes = 23});
  loader.begin();
  EXPECT_THAT(refusal<ArgumentError>([&] { push(loader, whole(source, "w.weight")); }),
              AllOf(HasSubstr("(max_pending_bytes)"), HasSubstr("wait for their scales")));
}

TEST(PushSession, CodesInFp8WithoutScalesAreStoredAtTheEnd) {
  MemorySource source;
  source.add("w.weight", DType::kF8E5M2, {4, 6});
  Device device;
  TestModel model;
  const StoredMatrix& matrix = model.matrix({{"w.weight", 4}}, 6, {.quantize = true});
  WeightLoader loader(device.backend, model.parameters, {});
  loader.begin();
  push(loader, whole(source, "w.weight"));
  loader.finish();
  EXPECT_EQ(device.codes(matrix), source.bytes("w.weight"));
  EXPECT_EQ(matrix.matrix.spec().scale_kind, ScaleKind::kNone);
}

TEST(PushSession, APieceThatWouldPassTheBoundIsRefusedAndMayComeAgain) {
  const MemorySource source = weights();
  const SourceTensor& a = source.tensors()[0];
  for (const auto& [granularity, word] : {std::pair(Granularity::kTensor, "a scale per tensor is known when"),
                                          std::pair(Granularity::kChannel, "push whole rows"),
                                          std::pair(Granularity::kBlock, "push multiples of 128 rows")}) {
    Device device;
    PushModel pulled(rule_of(granularity));
    device.load(pulled.model, source);
    Device other;
    PushModel pushed(rule_of(granularity));
    const int64_t half = 60 * 75 * 2;
    WeightLoader loader(other.backend, pushed.model.parameters, {.max_pending_bytes = half});
    loader.begin();
    push(loader, cut(source, a, {0, 60}, {0, 75}));
    EXPECT_EQ(other.ledger.current("loading"), half);
    const OwnedPiece more = cut(source, a, {60, 70}, {0, 75});
    EXPECT_THAT(
        refusal<ArgumentError>([&] { push(loader, more); }),
        AllOf(HasSubstr("tensor 'a.weight': a piece of 1500 bytes would have to wait"), HasSubstr(word)));
    EXPECT_EQ(other.ledger.current("loading"), half);
    if (granularity != Granularity::kChannel) continue;
    // Nothing of the refused piece was taken: it may come when there is room.
    push(loader, cut(source, a, {0, 60}, {75, kWidth}));
    EXPECT_EQ(other.ledger.current("loading"), 0);
    push(loader, more);
    push(loader, cut(source, a, {60, 70}, {75, kWidth}));
    push(loader, cut(source, a, {70, kHeight}, {0, kWidth}));
    for (const char* name : {"b.weight", "bias", "more.bias"}) push(loader, whole(source, name));
    loader.finish();
    EXPECT_EQ(stored(other, pushed), stored(device, pulled));
  }
}

TEST(PushSession, WhatIsMissingCameTwiceOrIsUnknownIsReportedTogether) {
  const MemorySource source = weights();
  const SourceTensor& a = source.tensors()[0];
  Device device;
  PushModel model(rule_of(Granularity::kChannel));
  WeightLoader loader(device.backend, model.model.parameters, {});
  loader.begin();
  push(loader, cut(source, a, {0, 50}, {0, kWidth}));
  push(loader, cut(source, a, {0, 50}, {0, kWidth}));
  push(loader, cut(source, a, {60, kHeight}, {0, kWidth}));
  push(loader, whole(source, "bias"));
  push(loader, whole(source, "more.bias"));
  push(loader, {.piece = {.name = "stranger", .dtype = DType::kBF16, .shape = {1}},
                .bytes = std::vector<std::byte>(2)});
  EXPECT_THAT(
      refusal<FormatError>([&] { loader.finish(); }),
      AllOf(HasSubstr("tensor 'a.weight': rows 0 to 49, columns 0 to 149 came, in part or whole, twice"),
            HasSubstr("28500 of 30000 values came, first missing are rows 50 to 59, columns 0 to 149"),
            HasSubstr("missing tensor 'b.weight', expected with shape [9, 150]"),
            HasSubstr("no parameter asks for tensor 'stranger'")));
  EXPECT_EQ(device.ledger.current(), 0);
  EXPECT_TRUE(model.matrix->matrix.empty());
  EXPECT_TRUE(model.vector->tensor.empty());
}

TEST(PushSession, AnOverlapOfPartsIsAFaultToo) {
  const MemorySource source = weights();
  for (const StorageRule& rule : all_rules()) {
    Device device;
    PushModel model(rule);
    WeightLoader loader(device.backend, model.model.parameters, {.max_pending_bytes = kPlenty});
    loader.begin();
    for (const SourceTensor& tensor : source.tensors()) push(loader, whole(source, tensor.name));
    push(loader, cut(source, source.tensors()[0], {199, 200}, {149, 150}));
    EXPECT_THAT(refusal<FormatError>([&] { loader.finish(); }),
                HasSubstr("rows 199 to 199, columns 149 to 149 came"));
    EXPECT_EQ(device.ledger.current(), 0);
  }
}

TEST(PushSession, NamesThatNobodyAsksForAreToldOfWhenAllElseIsThere) {
  MemorySource source = weights();
  source.add("stranger", DType::kBF16, {2});
  source.add("x.rotary_emb.inv_freq", DType::kF32, {4});
  Device device;
  PushModel model({});
  std::vector<std::string> warnings;
  WeightLoader loader(device.backend, model.model.parameters,
                      {.warn = [&](const auto& w) { warnings.push_back(w); }});
  loader.begin();
  push_all(loader, shattered(source, 5), 1);
  const LoadReport report = loader.finish();
  EXPECT_THAT(report.unused, ElementsAre("stranger"));
  EXPECT_THAT(warnings, ElementsAre("1 tensors of the checkpoint are not used: 'stranger'"));
}

TEST(PushSession, RefusesPiecesThatContradictThemselvesOrEarlierOnes) {
  const MemorySource source = weights();
  const SourceTensor& a = source.tensors()[0];
  Device device;
  PushModel model(rule_of(Granularity::kChannel));
  WeightLoader loader(device.backend, model.model.parameters, {});
  const auto refused = [&](OwnedPiece piece) {
    return refusal<Error>([&] { push(loader, std::move(piece)); });
  };
  EXPECT_THAT(refused(whole(source, "a.weight")), HasSubstr("pushed while no load is under way"));
  loader.begin();
  OwnedPiece piece = cut(source, a, {0, 2}, {0, kWidth});
  piece.piece.rows = IndexRange{199, 201};
  EXPECT_THAT(refused(piece), HasSubstr("a piece of rows [199, 201), expected a range in [0, 200)"));
  piece.piece.rows = IndexRange{2, 1};
  EXPECT_THAT(refused(piece), HasSubstr("a piece of rows [2, 1)"));
  piece.piece.rows = IndexRange{0, 2};
  piece.piece.cols = IndexRange{-1, 149};
  EXPECT_THAT(refused(piece), HasSubstr("a piece of columns [-1, 149)"));
  piece = cut(source, a, {0, 2}, {0, kWidth});
  piece.bytes.pop_back();
  EXPECT_THAT(refused(piece), HasSubstr("has 600 bytes, found 599"));
  piece = cut(source, a, {0, 2}, {0, kWidth});
  piece.piece.shape = {kHeight + 1, kWidth};
  EXPECT_THAT(refused(piece), HasSubstr("tensor 'a.weight': expected shape [200, 150], found [201, 150]"));
  piece.piece.shape = {-2, 3};
  EXPECT_THAT(refused(piece), HasSubstr("no tensor has the shape [-2, 3]"));
  EXPECT_EQ(device.ledger.current(), 0);
  push(loader, cut(source, a, {0, 2}, {0, kWidth}));
  piece = cut(weights(DType::kF32), a, {2, 4}, {0, kWidth});
  piece.piece.dtype = DType::kF16;
  EXPECT_THAT(refused(piece), HasSubstr("a piece says F16 [200, 150], known was BF16 [200, 150]"));
  OwnedPiece other = whole(weights(DType::kF32), "b.weight");
  EXPECT_THAT(refused(other), AllOf(HasSubstr("found F32 [9, 150], expected BF16"), HasSubstr("announce")));
  push(loader, cut(source, a, {2, kHeight}, {0, kWidth}));
  for (const char* name : {"b.weight", "bias", "more.bias"}) push(loader, whole(source, name));
  loader.finish();
  EXPECT_THAT(refused(whole(source, "a.weight")), HasSubstr("pushed while no load is under way"));
}

TEST(PushSession, TensorsOfOneMatrixMayDifferInDtypeWhenTheyWereAnnounced) {
  MemorySource source;
  source.add("a.weight", DType::kF16, {3, 5});
  source.add("b.weight", DType::kBF16, {2, 5});
  Device device;
  TestModel pulled;
  const StoredMatrix& expected = pulled.matrix({{"a.weight", 3}, {"b.weight", 2}}, 5, {});
  device.load(pulled, source, {.compute_dtype = DType::kF32});
  TestModel model;
  const StoredMatrix& matrix = model.matrix({{"a.weight", 3}, {"b.weight", 2}}, 5, {});
  WeightLoader loader(device.backend, model.parameters, {.compute_dtype = DType::kF32});
  loader.begin(source.tensors());
  push_all(loader, shattered(source, 3), 1);
  loader.finish();
  EXPECT_EQ(device.codes(matrix), device.codes(expected));
}

TEST(PushSession, ValuesThatAreNotFiniteOrTooLargeAreRefusedAtTheEnd) {
  MemorySource source;
  std::vector<float> values(20, 1.0F);
  values[13] = std::numeric_limits<float>::infinity();
  source.add("w.weight", DType::kF32, {5, 4}, values);
  for (const StorageRule& rule : all_rules()) {
    Device device;
    TestModel model;
    model.matrix({{"w.weight", 5}}, 4, rule);
    WeightLoader loader(device.backend, model.parameters, {});
    loader.begin();
    push_all(loader, shattered(source, 1), 1);
    EXPECT_THAT(refusal<FormatError>([&] { loader.finish(); }),
                HasSubstr("tensor 'w.weight': 1 values are NaN or infinite, the first in row 3"));
    EXPECT_EQ(device.ledger.current(), 0);
  }
}

TEST(PushSession, TheSecondNameOfATiedTableServesAlone) {
  MemorySource source;
  source.add("embed.weight", DType::kBF16, {30, 5});
  source.add("lm_head.weight", DType::kBF16, {30, 5}, source.floats("embed.weight", DType::kBF16));
  source.add("other.weight", DType::kBF16, {30, 5});
  const auto load = [&](std::vector<std::string> names, const std::string& as = {}) {
    Device device;
    TestModel model;
    const StoredMatrix& matrix = model.matrix({{"embed.weight", 30}}, 5, {});
    model.parameters[0].twin = "lm_head.weight";
    WeightLoader loader(device.backend, model.parameters, {});
    loader.begin();
    for (const std::string& name : names) {
      OwnedPiece piece = whole(source, name);
      if (name == "other.weight") piece.piece.name = as;
      push(loader, piece);
    }
    loader.finish();
    EXPECT_EQ(device.codes(matrix), source.bytes("embed.weight"));
  };
  load({"lm_head.weight"});
  load({"embed.weight", "lm_head.weight"});
  load({"lm_head.weight", "embed.weight"});
  EXPECT_THAT(refusal<FormatError>([&] { load({"embed.weight", "other.weight"}, "lm_head.weight"); }),
              HasSubstr("'embed.weight' and 'lm_head.weight' are one table in this model but differ"));
}

TEST(PushSession, AbandoningOrForgettingALoadGivesEverythingBack) {
  const MemorySource source = weights();
  Device device;
  PushModel model(rule_of(Granularity::kTensor));
  {
    WeightLoader loader(device.backend, model.model.parameters, {});
    loader.begin();
    push(loader, cut(source, source.tensors()[0], {0, 10}, {0, kWidth}));
    EXPECT_GT(device.ledger.current(), 0);
    loader.abandon();
    EXPECT_EQ(device.ledger.current(), 0);
    loader.begin();
    push(loader, cut(source, source.tensors()[0], {0, 10}, {0, kWidth}));
  }
  EXPECT_EQ(device.ledger.current(), 0);
  EXPECT_TRUE(model.matrix->matrix.empty());
}

}  // namespace
}  // namespace octet
