// SPDX-License-Identifier: Apache-2.0
#include "octet/checkpoint/safetensors_header.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "octet/base/error.h"
#include "tests/support/safetensors_text.h"

namespace octet {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::ThrowsMessage;

SafetensorsHeader parse(const std::string& text, int64_t data_bytes) {
  return parse_safetensors_header(text, "m.safetensors", 100, data_bytes);
}

void expect_refusal_of_header(const std::string& text, int64_t data_bytes, const std::string& message) {
  EXPECT_THAT([&] { parse(text, data_bytes); },
              ThrowsMessage<FormatError>(AllOf(HasSubstr("m.safetensors"), HasSubstr(message))))
      << text;
}

/// A header of one tensor "t".
std::string one(std::string_view dtype, std::string_view shape, std::string_view offsets) {
  return "{\"t\":{\"dtype\":" + std::string(dtype) + ",\"shape\":" + std::string(shape) +
         ",\"data_offsets\":" + std::string(offsets) + "}}";
}

TEST(SafetensorsHeader, GivesTensorsInTheOrderOfTheirBytes) {
  const auto header =
      parse("{" + entry("b", "BF16", "[2,3]", 4, 16) + "," + entry("a", "F32", "[]", 0, 4) + "}  ", 16);
  ASSERT_EQ(header.tensors.size(), 2U);
  EXPECT_EQ(header.tensors[0].name, "a");
  EXPECT_EQ(header.tensors[0].shape_text(), "[]");
  EXPECT_EQ(header.tensors[0].rows(), 1);
  EXPECT_EQ(header.tensors[0].offset, 100);
  EXPECT_EQ(header.tensors[1].name, "b");
  EXPECT_EQ(header.tensors[1].dtype, DType::kBF16);
  EXPECT_EQ(header.tensors[1].shape_text(), "[2, 3]");
  EXPECT_EQ(header.tensors[1].bytes, 12);
  EXPECT_EQ(header.tensors[1].offset, 104);
}

TEST(SafetensorsHeader, KnowsEveryTypeOfTheFormat) {
  for (const char* type : {"F64", "I64", "U64", "C64"})
    EXPECT_EQ(parse("{" + entry("t", type, "[8]", 0, 64) + "}", 64).tensors[0].bytes, 64) << type;
  for (const char* type : {"F32", "I32", "U32"})
    EXPECT_EQ(parse("{" + entry("t", type, "[8]", 0, 32) + "}", 32).tensors[0].bytes, 32) << type;
  for (const char* type : {"F16", "BF16", "I16", "U16"})
    EXPECT_EQ(parse("{" + entry("t", type, "[8]", 0, 16) + "}", 16).tensors[0].bytes, 16) << type;
  for (const char* type :
       {"F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "I8", "U8", "BOOL"}) {
    EXPECT_EQ(parse("{" + entry("t", type, "[8]", 0, 8) + "}", 8).tensors[0].bytes, 8) << type;
  }
  for (const char* type : {"F6_E2M3", "F6_E3M2"})
    EXPECT_EQ(parse("{" + entry("t", type, "[8]", 0, 6) + "}", 6).tensors[0].bytes, 6) << type;
  EXPECT_EQ(parse("{" + entry("t", "F4", "[8]", 0, 4) + "}", 4).tensors[0].bytes, 4);
}

TEST(SafetensorsHeader, TakesEmptyTensorsAnywhereAndAnEmptyFile) {
  const auto header = parse("{" + entry("e", "F32", "[0,7]", 0, 0) + "," + entry("a", "U8", "[2]", 0, 2) +
                                "," + entry("f", "F32", "[9223372036854775807,0]", 2, 2) + "}",
                            2);
  EXPECT_EQ(header.tensors.size(), 3U);
  EXPECT_TRUE(parse("{}", 0).tensors.empty());
}

TEST(SafetensorsHeader, TakesRanksBeyondFour) {
  EXPECT_THAT(parse("{" + entry("t", "U8", "[1,2,1,2,1,2]", 0, 8) + "}", 8).tensors[0].shape,
              ElementsAre(1, 2, 1, 2, 1, 2));
}

TEST(SafetensorsHeader, GivesItsMetadata) {
  const auto header = parse(R"({"__metadata__":{"format":"pt","x":"y"}})", 0);
  EXPECT_THAT(header.metadata, ElementsAre(std::pair("format", "pt"), std::pair("x", "y")));
}

TEST(SafetensorsHeader, RefusesMetadataThatIsNotStrings) {
  expect_refusal_of_header(R"({"__metadata__":{"format":1}})", 0,
                           "__metadata__: 'format': expected a string, found '1'");
  expect_refusal_of_header(R"({"__metadata__":[]})", 0, "__metadata__: expected an object");
}

TEST(SafetensorsHeader, RefusesWhatIsNoObject) {
  for (const char* text : {"", " {}", "[]", "null", "\xef\xbb\xbf{}"})
    expect_refusal_of_header(text, 0, "does not begin with '{'");
  expect_refusal_of_header(R"({"t":7})", 0, "tensor 't': expected an object, found '7'");
}

TEST(SafetensorsHeader, RefusesJsonThatIsMalformed) {
  expect_refusal_of_header("{\"a\":", 0, "not valid JSON at byte");
  expect_refusal_of_header("{}x", 0, "not valid JSON");
  expect_refusal_of_header("{\"\xff\":{}}", 0, "UTF-8");
}

TEST(SafetensorsHeader, RefusesNestingThatIsDeep) {
  expect_refusal_of_header("{\"a\":" + std::string(100000, '[') + std::string(100000, ']') + "}", 0,
                           "nested deeper than 64");
}

TEST(SafetensorsHeader, RefusesANameThatOccursTwice) {
  expect_refusal_of_header("{" + entry("t", "U8", "[1]", 0, 1) + "," + entry("t", "U8", "[1]", 1, 2) + "}", 2,
                           "'t' occurs twice");
}

TEST(SafetensorsHeader, NamesATypeThatItDoesNotKnow) {
  expect_refusal_of_header(one("\"F12\"", "[1]", "[0,4]"), 4,
                           "tensor 't': dtype: expected a type of the format, found '\"F12\"'");
  expect_refusal_of_header(one("5", "[1]", "[0,4]"), 4, "dtype: expected");
  expect_refusal_of_header(R"({"t":{"shape":[1],"data_offsets":[0,4]}})", 4,
                           "dtype: expected a type of the format, found nothing");
}

TEST(SafetensorsHeader, RefusesShapesThatAreNotCounts) {
  for (const char* shape :
       {"[-1]", "[1.5]", "[\"2\"]", "{}", "3", "null", "[[1]]", "[18446744073709551615]", "[1e3]"}) {
    expect_refusal_of_header(one("\"U8\"", shape, "[0,1]"), 1,
                             "tensor 't': shape: expected integers of at least 0, found");
  }
}

TEST(SafetensorsHeader, RefusesOffsetsThatAreNoRange) {
  for (const char* offsets :
       {"[0]", "[0,1,2]", "[1,0]", "[-1,0]", "\"0,1\"", "[0,1.0]", "[0,18446744073709551615]"}) {
    expect_refusal_of_header(one("\"U8\"", "[1]", offsets), 1,
                             "tensor 't': data_offsets: expected [begin, end], found");
  }
}

TEST(SafetensorsHeader, RefusesAShapeWhoseProductOverflows) {
  // 2^32 * 2^32 wraps to 0 in 64 bits, and 2^61 * 64 bits to 0 as well: neither may pass for an empty tensor.
  expect_refusal_of_header(one("\"U8\"", "[4294967296,4294967296]", "[0,0]"), 0, "overflows");
  expect_refusal_of_header(one("\"F64\"", "[2305843009213693952]", "[0,0]"), 0, "overflows");
  expect_refusal_of_header(one("\"U8\"", "[4294967296,4294967296,0]", "[0,0]"), 0, "overflows");
}

TEST(SafetensorsHeader, RefusesALengthThatTypeAndShapeDoNotGive) {
  expect_refusal_of_header(one("\"F32\"", "[3]", "[0,13]"), 13,
                           "tensor 't': F32 '[3]' needs 12 bytes, found data_offsets of 13");
  expect_refusal_of_header(one("\"F16\"", "[3]", "[0,12]"), 12, "needs 6 bytes");
  expect_refusal_of_header(one("\"F4\"", "[3]", "[0,2]"), 2, "not whole bytes");
}

TEST(SafetensorsHeader, RefusesTensorsThatOverlap) {
  expect_refusal_of_header(
      "{" + entry("a", "U8", "[4]", 0, 4) + "," + entry("b", "U8", "[4]", 3, 7) + "}", 7,
      "tensor 'b' overlaps tensor 'a': it begins at byte 3 of the data, the other ends at 4");
  expect_refusal_of_header("{" + entry("a", "U8", "[4]", 0, 4) + "," + entry("b", "U8", "[4]", 0, 4) + "}", 4,
                           "overlaps");
  expect_refusal_of_header("{" + entry("a", "U8", "[8]", 0, 8) + "," + entry("b", "U8", "[1]", 2, 3) + "," +
                               entry("c", "U8", "[1]", 7, 8) + "}",
                           8, "tensor 'c' overlaps tensor 'a'");
}

TEST(SafetensorsHeader, RefusesAHoleBetweenTensorsBeforeTheFirstAndAfterTheLast) {
  expect_refusal_of_header("{" + entry("a", "U8", "[4]", 0, 4) + "," + entry("b", "U8", "[4]", 5, 9) + "}", 9,
                           "bytes 4 to 5 of the data belong to no tensor");
  expect_refusal_of_header("{" + entry("a", "U8", "[4]", 2, 6) + "}", 6, "bytes 0 to 2 of the data");
  expect_refusal_of_header("{" + entry("a", "U8", "[4]", 0, 4) + "}", 9, "bytes 4 to 9 of the data");
  expect_refusal_of_header("{}", 1, "bytes 0 to 1 of the data");
}

TEST(SafetensorsHeader, SaysThatAFileIsCutShort) {
  expect_refusal_of_header(
      "{" + entry("a", "U8", "[4]", 0, 4) + "}", 3,
      "the file is cut short: expected 4 bytes of data up to the end of tensor 'a', found 3");
  expect_refusal_of_header("{" + entry("a", "U8", "[9223372036854775807]", 0, INT64_MAX) + "}", 3,
                           "overflows");
}

TEST(SafetensorsHeader, ReportsAllFaultsTogetherAndCountsThoseItDoesNotShow) {
  std::string text = "{";
  for (int i = 0; i < 15; ++i)
    text += (i > 0 ? "," : "") + entry("t" + std::to_string(i), "F99", "[1]", 0, 1);
  EXPECT_THAT([&] { parse(text + "}", 1); },
              ThrowsMessage<FormatError>(AllOf(HasSubstr("15 faults"), HasSubstr("'t0'"), HasSubstr("'t9'"),
                                               Not(HasSubstr("'t10'")), HasSubstr("and 5 more"))));
}

TEST(SafetensorsHeader, CutsAndEscapesALongHostileNameInItsMessages) {
  const std::string name = "\u001b[2J" + std::string(100000, 'x');
  try {
    parse("{" + entry(name, "F99", "[1]", 0, 1) + "}", 1);
    FAIL() << "accepted";
  } catch (const FormatError& error) {
    EXPECT_LT(std::string(error.what()).size(), 1000U);
    EXPECT_EQ(std::string(error.what()).find('\x1b'), std::string::npos);
  }
}

TEST(SafetensorsHeader, IgnoresKeysOfAnEntryThatItDoesNotKnow) {
  EXPECT_EQ(
      parse(R"({"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"later":{"x":1}}})", 1).tensors.size(),
      1U);
}

}  // namespace
}  // namespace octet
