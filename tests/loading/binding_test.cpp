// SPDX-License-Identifier: Apache-2.0
#include "octet/loading/binding.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "octet/backend/reference/reference_backend.h"
#include "octet/loading/weight_loader.h"
#include "tests/loading/memory_source.h"

namespace octet {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

std::string refusal_of_load(const TestModel& model, const WeightSource& source,
                            const LoadOptions& options = {}) {
  MemoryLedger ledger;
  ReferenceBackend backend(ledger);
  try {
    WeightLoader(backend, model.parameters, options).pull(source);
  } catch (const FormatError& error) {
    EXPECT_EQ(ledger.peak(), 0) << "faults that headers show come before memory is taken";
    return error.what();
  }
  return "accepted";
}

TEST(Binding, RefusesAMissingTensorWithTheShapeItWouldHave) {
  MemorySource source;
  source.add("a.weight", DType::kBF16, {2, 3});
  TestModel model;
  model.matrix({{"a.weight", 2}, {"b.weight", 4}}, 3, {});
  const std::string message = refusal_of_load(model, source);
  EXPECT_THAT(message, HasSubstr("model: missing tensor 'b.weight', expected with shape [4, 3]"));
  EXPECT_THAT(message, Not(HasSubstr("nothing fills"))) << "the hole that it leaves is no second fault";
}

TEST(Binding, NamesBothNamesOfAMissingTiedTable) {
  MemorySource source;
  TestModel model;
  model.matrix({{"embed.weight", 2}}, 3, {});
  model.parameters[0].twin = "lm_head.weight";
  EXPECT_THAT(
      refusal_of_load(model, source),
      HasSubstr("missing tensor 'embed.weight', expected with shape [2, 3] (nor is there 'lm_head.weight')"));
}

TEST(Binding, RefusesAWrongShapeWithTheFileAndBothShapes) {
  MemorySource source;
  source.add("a.weight", DType::kBF16, {2, 4});
  TestModel model;
  model.matrix({{"a.weight", 2}}, 3, {});
  EXPECT_THAT(refusal_of_load(model, source),
              HasSubstr("a.safetensors: tensor 'a.weight': expected shape [2, 3], found [2, 4]"));
}

TEST(Binding, RefusesADtypeThatIsNoWeight) {
  MemorySource source;
  source.add("a.weight", DType::kI8, {2, 3}, std::vector<std::byte>(6));
  source.add("norm.weight", DType::kF8E4M3, {3}, std::vector<std::byte>(3));
  TestModel model;
  model.matrix({{"a.weight", 2}}, 3, {});
  model.vector({{"norm.weight", 3}});
  EXPECT_THAT(
      refusal_of_load(model, source),
      AllOf(HasSubstr("tensor 'a.weight': expected dtype F32, F16, BF16, F8_E4M3 or F8_E5M2, found I8"),
            HasSubstr("tensor 'norm.weight': expected dtype F32, F16, BF16, found F8_E4M3")));
}

TEST(Binding, RefusesRowsThatWouldBeWrittenTwiceOrNotAtAllOrBeyondTheEnd) {
  MemorySource source;
  source.add("a.weight", DType::kBF16, {4, 3});
  source.add("b.weight", DType::kBF16, {4, 3});
  TestModel twice;
  twice.matrix({{"a.weight", 4}, {"b.weight", 4}}, 3, {});
  twice.parameters[1].offset = 2;
  EXPECT_THAT(refusal_of_load(twice, source),
              AllOf(HasSubstr("'b.weight' would write rows 2 to 3 a second time"),
                    HasSubstr("nothing fills rows 6 to 7")));
  TestModel hole;
  hole.matrix({{"a.weight", 4}, {"b.weight", 4}}, 3, {}).rows = 9;
  hole.parameters[1].offset = 5;
  EXPECT_THAT(refusal_of_load(hole, source), HasSubstr("nothing fills rows 4 to 4"));
  TestModel beyond;
  beyond.matrix({{"a.weight", 4}, {"b.weight", 4}}, 3, {}).rows = 7;
  EXPECT_THAT(refusal_of_load(beyond, source), HasSubstr("has 7 rows, its parameters write 8"));
}

TEST(Binding, ReportsFaultsOfEveryKindTogether) {
  MemorySource source;
  source.add("wrong.weight", DType::kBF16, {2, 4});
  source.add("integer.weight", DType::kI32, {2, 3}, std::vector<std::byte>(24));
  TestModel model;
  model.matrix({{"missing.weight", 2}}, 3, {});
  model.matrix({{"wrong.weight", 2}}, 3, {});
  model.matrix({{"integer.weight", 2}}, 3, {});
  EXPECT_THAT(refusal_of_load(model, source), AllOf(HasSubstr("model: 3 faults"), HasSubstr("missing.weight"),
                                                    HasSubstr("wrong.weight"), HasSubstr("integer.weight")));
}

TEST(Binding, AnOptionalParameterMayBeAbsentWhole) {
  MemoryLedger ledger;  // outlives what the model holds
  ReferenceBackend backend(ledger);
  MemorySource source;
  source.add("a.weight", DType::kBF16, {2, 3});
  TestModel model;
  model.matrix({{"a.weight", 2}}, 3, {});
  const StoredVector& bias = model.vector({{"q.bias", 2}, {"k.bias", 2}});
  model.parameters[1].required = false;
  model.parameters[2].required = false;
  const LoadReport report = WeightLoader(backend, model.parameters, {}).pull(source);
  EXPECT_TRUE(bias.tensor.empty());
  EXPECT_THAT(report.missing, testing::ElementsAre("q.bias", "k.bias"));
}

TEST(Binding, RefusesAnOptionalParameterThatIsThereInPart) {
  MemorySource source;
  source.add("q.bias", DType::kBF16, {2});
  TestModel model;
  model.vector({{"q.bias", 2}, {"k.bias", 2}});
  model.parameters[1].required = false;
  EXPECT_THAT(refusal_of_load(model, source), HasSubstr("nothing fills elements 2 to 3"));
}

TEST(Binding, RefusesMembersOfOneMatrixThatAreStoredDifferently) {
  MemorySource source;
  source.add("q.weight", DType::kF8E4M3, {2, 3});
  source.add("k.weight", DType::kBF16, {2, 3});
  TestModel model;
  model.matrix({{"q.weight", 2}, {"k.weight", 2}}, 3, {});
  EXPECT_THAT(refusal_of_load(model, source),
              AllOf(HasSubstr("must be stored alike"), HasSubstr("'q.weight' (F8_E4M3 without scales)"),
                    HasSubstr("'k.weight' (BF16)")));
}

}  // namespace
}  // namespace octet
