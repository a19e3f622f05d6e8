// SPDX-License-Identifier: Apache-2.0
#include "octet/base/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>

#include "octet/base/error.h"

namespace octet {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

auto refused(const std::string& message) {
  return ThrowsMessage<FormatError>(HasSubstr(message));
}

TEST(ParseJson, ReadsValuesInTheirOrder) {
  const Json json = parse_json(R"({"b": [1, -2, 0.5, true, null], "a": {"x": "\u00e9"}})", "f");
  EXPECT_EQ(json.dump(), "{\"b\":[1,-2,0.5,true,null],\"a\":{\"x\":\"\xc3\xa9\"}}");
  EXPECT_EQ(parse_json(" 7 ", "f"), 7);
}

TEST(ParseJson, NamesSourceByteAndLineOfASyntaxError) {
  EXPECT_THAT([] { (void)parse_json("{\n\"a\": tru }", "config.json"); },
              refused("config.json: not valid JSON at byte 11 (line 2): syntax error"));
}

TEST(ParseJson, RefusesDuplicateKeysInOneObjectOnly) {
  EXPECT_THAT([] { (void)parse_json(R"({"a": 1, "b": {"a": 2, "c": 3, "c": 4}})", "f"); },
              refused("key 'c' occurs twice"));
  EXPECT_NO_THROW((void)parse_json(R"({"a": {"a": 1}, "b": [{"a": 1}, {"a": 2}]})", "f"));
}

TEST(ParseJson, RefusesKeysThatDifferOnlyInTheirEscapes) {
  EXPECT_THAT([] { (void)parse_json(R"({"a": 1, "\u0061": 2})", "f"); }, refused("key 'a' occurs twice"));
}

TEST(ParseJson, RefusesTrailingBytes) {
  EXPECT_THAT([] { (void)parse_json("{} x", "f"); }, refused("not valid JSON"));
  EXPECT_THAT([] { (void)parse_json("{}{}", "f"); }, refused("not valid JSON"));
}

TEST(ParseJson, RefusesANulByteAfterTheValue) {
  EXPECT_THAT([] { (void)parse_json(std::string_view("{}\0junk", 7), "f"); },
              refused("byte 2 (line 1): a NUL byte"));
}

TEST(ParseJson, RefusesInvalidUtf8AndLoneSurrogates) {
  EXPECT_THAT([] { (void)parse_json("\"\xff\"", "f"); }, refused("UTF-8"));
  EXPECT_THAT([] { (void)parse_json("\"\xc0\xaf\"", "f"); }, refused("UTF-8"));
  EXPECT_THAT([] { (void)parse_json(R"("\ud800")", "f"); }, refused("surrogate"));
}

TEST(ParseJson, RefusesNumbersThatAreNotFinite) {
  for (const char* text : {"NaN", "Infinity", "-Infinity", "1e999", "[1e999]", "+1", "0x10", "01", "."}) {
    EXPECT_THROW((void)parse_json(text, "f"), FormatError) << text;
  }
}

TEST(ParseJson, RefusesCommentsAndLooseCommas) {
  for (const char* text : {"[1,]", "{\"a\":1,}", "// x\n1", "/* */ 1", "{a: 1}", "'a'", ""}) {
    EXPECT_THROW((void)parse_json(text, "f"), FormatError) << text;
  }
}

TEST(ParseJson, NestsToADepthOf64) {
  const auto nested = [](size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  EXPECT_NO_THROW((void)parse_json(nested(64), "f"));
  EXPECT_THAT([&] { (void)parse_json(nested(65), "f"); }, refused("nested deeper than 64"));
  EXPECT_THAT([] { (void)parse_json(std::string(1000000, '['), "f"); }, refused("at byte 65"));
}

TEST(ParseJson, RefusesMoreValuesThanMemoryShouldHold) {
  std::string text = "[";
  for (int i = 0; i < 4'000'001; ++i) text += "0,";
  EXPECT_THAT([&] { (void)parse_json(text, "f"); }, refused("more than 4000000 values"));
}

TEST(ParseJson, ReadsAnObjectOfManyKeysInTimeThatGrowsWithItsLength) {
  std::string text = "{";
  for (int i = 0; i < 200000; ++i) text += "\"k" + std::to_string(i) + "\":0,";
  text.back() = '}';
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(parse_json(text, "f").size(), 200000U);
  EXPECT_LT(std::chrono::steady_clock::now() - begin,
            std::chrono::seconds(20));  // looking each key up takes minutes
}

TEST(JsonFields, ReadsWhatIsThereAndDefaultsWhatIsNot) {
  const Json json =
      parse_json(R"({"i": 5, "n": 0.25, "b": true, "s": "x", "l": [1, 2], "o": {}, "z": null})", "f");
  JsonFields fields(json, "f");
  EXPECT_EQ(fields.integer("i", 0, 0, 10), 5);
  EXPECT_EQ(fields.required_integer("i", 0, 10), 5);
  EXPECT_EQ(fields.integer("absent", 7, 0, 10), 7);
  EXPECT_EQ(fields.integer("z", 8, 0, 10), 8);
  EXPECT_EQ(fields.number("n", 0, 0, 1), 0.25);
  EXPECT_EQ(fields.number("i", 0, 0, 10), 5.0);
  EXPECT_TRUE(fields.boolean("b", false));
  EXPECT_EQ(fields.string("s", ""), "x");
  EXPECT_THAT(fields.integers("l", 0, 9), ElementsAre(1, 2));
  EXPECT_THAT(fields.integers("i", 0, 9), ElementsAre(5));
  EXPECT_TRUE(fields.integers("absent", 0, 9).empty());
  EXPECT_NE(fields.object("o"), nullptr);
  EXPECT_EQ(fields.object("z"), nullptr);
  EXPECT_TRUE(fields.has("i"));
  EXPECT_FALSE(fields.has("z"));
  EXPECT_TRUE(fields.faults().empty());
  EXPECT_NO_THROW(fields.finish());
}

TEST(JsonFields, ReportsAllFaultsInOneError) {
  const Json json =
      parse_json(R"({"i": "five", "j": 99, "n": true, "b": 1, "s": 2, "l": [1, "x"], "o": 3})", "f");
  JsonFields fields(json, "config.json");
  EXPECT_EQ(fields.integer("i", 4, 0, 10), 4);
  EXPECT_EQ(fields.integer("j", 4, 0, 10), 4);
  (void)fields.required_integer("k", 1, 10);
  EXPECT_EQ(fields.number("n", 0.5, 0, 1), 0.5);
  EXPECT_FALSE(fields.boolean("b", false));
  EXPECT_EQ(fields.string("s", "d"), "d");
  EXPECT_TRUE(fields.integers("l", 0, 9).empty());
  EXPECT_EQ(fields.object("o"), nullptr);
  fields.fault("own", "expected this, found that");
  EXPECT_EQ(fields.faults().size(), 9U);
  EXPECT_THAT(
      [&] { fields.finish(); },
      ThrowsMessage<ConfigError>(AllOf(
          HasSubstr("config.json: i: expected an integer from 0 to 10, found the string 'five'"),
          HasSubstr("config.json: j: expected an integer from 0 to 10, found 99"),
          HasSubstr("config.json: k: expected an integer from 1 to 10, but the field is missing"),
          HasSubstr("config.json: n: expected a number from 0.0 to 1.0, found true"),
          HasSubstr("config.json: b: expected true or false, found 1"),
          HasSubstr("config.json: s: expected a string, found 2"),
          HasSubstr(
              "config.json: l: expected an integer from 0 to 9 or a list of such, found the string 'x'"),
          HasSubstr("config.json: o: expected an object, found 3"),
          HasSubstr("config.json: own: expected this, found that"))));
}

TEST(JsonFields, RefusesNumbersThatOnlyLookLikeIntegers) {
  const Json json = parse_json(R"({"a": 1.5, "b": 18446744073709551615, "c": 1e30, "d": 2.0})", "f");
  JsonFields fields(json, "f");
  for (const char* name : {"a", "b", "c", "d"})
    EXPECT_EQ(fields.integer(name, -1, INT64_MIN, INT64_MAX), -1) << name;
  EXPECT_EQ(fields.faults().size(), 4U);
}

TEST(JsonFields, SaysAFaultOnceThoughTheFieldIsReadTwice) {
  const Json json = parse_json(R"({"a": "x"})", "f");
  JsonFields fields(json, "f");
  (void)fields.integer("a", 0, 0, 1);
  (void)fields.integer("a", 0, 0, 1);
  EXPECT_EQ(fields.faults().size(), 1U);
}

TEST(JsonFields, RefusesAValueThatIsNoObject) {
  const Json json = parse_json("[1]", "f");
  JsonFields fields(json, "config.json");
  EXPECT_EQ(fields.integer("a", 3, 0, 9), 3);
  EXPECT_THAT([&] { fields.finish(); },
              ThrowsMessage<ConfigError>(HasSubstr("expected an object, found a list of 1")));
}

TEST(JsonFields, TakesOverTheFaultsOfANestedObject) {
  const Json json = parse_json(R"({"o": {"a": "x"}})", "f");
  JsonFields outer(json, "f");
  JsonFields inner(*outer.object("o"), "f: o");
  (void)inner.integer("a", 0, 0, 1);
  outer.absorb(inner);
  EXPECT_THAT([&] { outer.finish(); }, ThrowsMessage<ConfigError>(HasSubstr("f: o: a: expected")));
}

}  // namespace
}  // namespace octet
