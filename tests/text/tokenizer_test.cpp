// SPDX-License-Identifier: Apache-2.0
#include "octet/text/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <ctime>
#include <iostream>
#include <random>
#include <thread>

#include "octet/base/error.h"
#include "tests/support/refusal.h"
#include "tests/support/source_dir.h"
#include "tests/text/text_files.h"

namespace octet {
namespace {

using nlohmann::ordered_json;
using test::golden_json;
using test::golden_text;
using test::refusal;
using testing::HasSubstr;

using Ids = std::vector<int32_t>;

const std::vector<std::string> kFamilies = {"gpt2",       "gpt2_bos",      "llama3",  "llama3_no_bos", "qwen",
                                            "metaspace",  "sentencepiece", "unigram", "wordpiece",     "opt",
                                            "opt_no_bos", "opt_silent",    "opt_map"};

Tokenizer open(const std::string& family) {
  return Tokenizer::open(golden_text() / "tokenizers" / family);
}

std::optional<int32_t> optional_id(const ordered_json& id) {
  return id.is_null() ? std::nullopt : std::optional<int32_t>(id.get<int32_t>());
}

std::string decode_step_by_step(const Tokenizer& tokenizer, const Ids& ids, bool skip_special) {
  IncrementalDecoder decoder(tokenizer, skip_special);
  std::string text;
  for (const int32_t id : ids) text += decoder.push(id);
  return text + decoder.finish();
}

void expect_as_transformers(const Tokenizer& tokenizer, const ordered_json& golden) {
  EXPECT_EQ(tokenizer.vocab_size(), golden["size"].get<int64_t>());
  EXPECT_EQ(tokenizer.bos_token_id(), optional_id(golden["bos"]));
  EXPECT_EQ(tokenizer.eos_token_id(), optional_id(golden["eos"]));
  for (const auto& expected : golden["cases"]) {
    const std::string text = expected["text"];
    SCOPED_TRACE(text);
    const Ids ids = expected["ids"];
    EXPECT_EQ(tokenizer.encode(text), ids);
    EXPECT_EQ(tokenizer.encode(text, false), expected["bare_ids"].get<Ids>());
    EXPECT_EQ(tokenizer.encode(text, {.add_special_tokens = false, .parse_special = false}),
              expected["plain_ids"].get<Ids>());
    EXPECT_EQ(tokenizer.decode(ids), expected["decoded"].get<std::string>());
    EXPECT_EQ(tokenizer.decode(ids, false), expected["decoded_all"].get<std::string>());
    EXPECT_EQ(decode_step_by_step(tokenizer, ids, true), expected["decoded"].get<std::string>());
    EXPECT_EQ(decode_step_by_step(tokenizer, ids, false), expected["decoded_all"].get<std::string>());
  }
}

TEST(Tokenizer, EncodesAndDecodesAsTransformersDoes) {
  for (const std::string& family : kFamilies) {
    SCOPED_TRACE(family);
    expect_as_transformers(open(family), golden_json("tokens/" + family + ".json"));
  }
}

TEST(Tokenizer, EncodesAndDecodesARealModelAsTransformersDoes) {
  const auto folder = source_dir() / ".." / "shared" / "models" / "stories260K";
  if (!Tokenizer::present(folder)) GTEST_SKIP() << "needs ../shared/models/stories260K";
  expect_as_transformers(Tokenizer::open(folder), golden_json("tokens/stories260K.json"));
}

TEST(Tokenizer, TakesNamesOfSpecialTokensAsTextWhenAsked) {
  const Tokenizer tokenizer = open("llama3");
  const Ids parsed = tokenizer.encode("<|end|>", false);
  EXPECT_EQ(parsed, Ids{tokenizer.token_to_id("<|end|>").value()});
  const Ids plain = tokenizer.encode("<|end|>", {.add_special_tokens = false, .parse_special = false});
  EXPECT_GT(plain.size(), 1u);
  EXPECT_EQ(tokenizer.decode(plain), "<|end|>");
}

TEST(Tokenizer, SpellsItsPieces) {
  const Tokenizer tokenizer = open("gpt2");
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id)
    EXPECT_EQ(tokenizer.token_to_id(tokenizer.piece(id)), id);
  EXPECT_EQ(tokenizer.token_to_id("no such token"), std::nullopt);
}

TEST(Tokenizer, RefusesIdsOutsideOfItsVocabulary) {
  const Tokenizer tokenizer = open("gpt2");
  const std::string size = std::to_string(tokenizer.vocab_size());
  for (const int32_t id : {-1, static_cast<int32_t>(tokenizer.vocab_size()), INT32_MAX, INT32_MIN}) {
    const std::string expected =
        "token id " + std::to_string(id) + " is not in the tokenizer's vocabulary of " + size;
    EXPECT_THAT(refusal<ArgumentError>([&] { tokenizer.decode(Ids{0, id}); }), HasSubstr(expected));
    EXPECT_THAT(refusal<ArgumentError>([&] { tokenizer.piece(id); }), HasSubstr(expected));
    EXPECT_THAT(refusal<ArgumentError>([&] { IncrementalDecoder(tokenizer).push(id); }), HasSubstr(expected));
  }
}

TEST(Tokenizer, RefusesTextThatIsNotUtf8WithTheOffset) {
  const Tokenizer tokenizer = open("gpt2");
  for (const std::string text :
       {"abc\xff", "abc\xc3", "abc\xed\xa0\x80", "abc\xf5\x80\x80\x80", "abc\xc0\x80"}) {
    EXPECT_THAT(refusal<ArgumentError>([&] { tokenizer.encode(text); }),
                HasSubstr("invalid byte at offset 3"));
  }
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(std::string("a\0b", 3))), std::string("a\0b", 3));
}

TEST(Tokenizer, EncodesAMegabyteWithinSeconds) {
  std::string words;
  while (words.size() < 1'000'000)
    words += "The quick brown fox, number " + std::to_string(words.size()) + ", jumps.\n";
  const std::vector<std::pair<std::string, std::string>> texts = {
      {"words", words},
      {"one letter", std::string(1'000'000, 'a')},
      {"blanks", std::string(1'000'000, ' ') + "x"},
      {"newlines", std::string(1'000'000, '\n')}};
  for (const std::string family : {"llama3", "qwen", "sentencepiece"}) {
    const Tokenizer tokenizer = open(family);
    for (const auto& [name, text] : texts) {
      // Of the processor: a machine that is busy with other work takes longer.
      const std::clock_t start = std::clock();
      const Ids ids = tokenizer.encode(text, false);
      const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
      std::cout << family << ", 1 MB of " << name << ": " << seconds << " s, " << ids.size() << " ids\n";
      EXPECT_LT(seconds, 20.0);
      EXPECT_EQ(tokenizer.decode(ids), text);
    }
  }
}

TEST(Tokenizer, MayBeUsedByThreadsAtOnce) {
  const Tokenizer tokenizer = open("llama3");
  const Ids expected = tokenizer.encode("The quick brown fox", {.parse_special = false});
  std::vector<std::thread> threads;
  std::atomic<int> equal = 0;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      const Tokenizer& shared = tokenizer;
      for (int k = 0; k < 50; ++k)
        equal += shared.encode("The quick brown fox", {.parse_special = false}) == expected;
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(equal, 200);
}

TEST(IncrementalDecoder, GivesNoHalfCharacter) {
  const std::string text = "a é 漢字 😀👩‍👩‍👧 z";
  for (const std::string family : {"gpt2", "sentencepiece", "metaspace"}) {
    SCOPED_TRACE(family);
    const Tokenizer tokenizer = open(family);
    IncrementalDecoder decoder(tokenizer);
    std::string whole;
    for (const int32_t id : tokenizer.encode(text)) {
      const std::string piece = decoder.push(id);
      EXPECT_THAT(piece, testing::Not(HasSubstr("\uFFFD")));
      EXPECT_NO_THROW(nlohmann::json(piece).dump()) << "half a character";
      whole += piece;
    }
    EXPECT_EQ(whole, text);
    EXPECT_EQ(decoder.finish(), "");
  }
}

TEST(IncrementalDecoder, GivesTextAsSoonAsItIsCertain) {
  const Tokenizer tokenizer = open("gpt2");
  IncrementalDecoder decoder(tokenizer);
  for (const int32_t id : tokenizer.encode("The quick brown fox")) EXPECT_NE(decoder.push(id), "");
}

TEST(IncrementalDecoder, EndsWithAMarkForBytesThatBecameNoCharacter) {
  for (const std::string family : {"gpt2", "sentencepiece"}) {
    SCOPED_TRACE(family);
    const Tokenizer tokenizer = open(family);
    Ids ids = tokenizer.encode("ab 😀", false);
    ids.pop_back();
    EXPECT_EQ(decode_step_by_step(tokenizer, ids, true), tokenizer.decode(ids));
    EXPECT_THAT(tokenizer.decode(ids), HasSubstr("\uFFFD"));
  }
}

TEST(IncrementalDecoder, AgreesWithTheWholeTextForAnyIdsOfAByteLevelVocabulary) {
  const Tokenizer tokenizer = open("gpt2");
  std::mt19937 random(7);
  // The first 256 ids are single bytes, most of which are no characters.
  for (const int32_t limit : {256, static_cast<int32_t>(tokenizer.vocab_size())}) {
    std::uniform_int_distribution<int32_t> any(0, limit - 1);
    for (int round = 0; round < 100; ++round) {
      Ids ids(200);
      for (int32_t& id : ids) id = any(random);
      ASSERT_EQ(decode_step_by_step(tokenizer, ids, true), tokenizer.decode(ids)) << round;
    }
  }
}

TEST(IncrementalDecoder, AgreesWithTheWholeTextForAnyTextOfAByteFallbackVocabulary) {
  const std::vector<std::string> parts = {" ",  "  ", "the",     " fox", "é",      "漢",
                                          "😀", "\n", "<|end|>", "<s>",  "\u00a0", "0"};
  std::mt19937 random(7);
  std::uniform_int_distribution<size_t> any(0, parts.size() - 1);
  for (const std::string family : {"sentencepiece", "metaspace"}) {
    const Tokenizer tokenizer = open(family);
    for (int round = 0; round < 200; ++round) {
      std::string text;
      for (int i = 0; i < 30; ++i) text += parts[any(random)];
      const Ids ids = tokenizer.encode(text);
      ASSERT_EQ(decode_step_by_step(tokenizer, ids, true), tokenizer.decode(ids)) << family << ": " << text;
      ASSERT_EQ(decode_step_by_step(tokenizer, ids, false), tokenizer.decode(ids, false))
          << family << ": " << text;
    }
  }
}

TEST(IncrementalDecoder, BeginsAnewAfterTheEnd) {
  const Tokenizer tokenizer = open("metaspace");
  IncrementalDecoder decoder(tokenizer);
  for (int round = 0; round < 2; ++round) {
    std::string text;
    for (const int32_t id : tokenizer.encode("the fox")) text += decoder.push(id);
    EXPECT_EQ(text + decoder.finish(), "the fox");
  }
}

TEST(IncrementalDecoder, OutlivesItsTokenizer) {
  std::optional<Tokenizer> tokenizer = open("gpt2");
  const Ids ids = tokenizer->encode("fox");
  IncrementalDecoder decoder(*tokenizer);
  tokenizer.reset();
  std::string text;
  for (const int32_t id : ids) text += decoder.push(id);
  EXPECT_EQ(text, "fox");
}

/// Seconds for `count` pushes of `ids` over and over.
double seconds_for(const Tokenizer& tokenizer, const Ids& ids, int count) {
  IncrementalDecoder decoder(tokenizer, false);
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < count; ++i) decoder.push(ids[static_cast<size_t>(i) % ids.size()]);
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

TEST(IncrementalDecoder, CostsTheSameForEachTokenOfALongText) {
  const Tokenizer tokenizer = open("sentencepiece");
  const int32_t stray_byte = tokenizer.token_to_id("<0x80>").value();
  const int32_t special = tokenizer.token_to_id("<s>").value();
  for (const Ids& ids : {tokenizer.encode("the fox"), Ids{stray_byte}, Ids{special},
                         Ids{tokenizer.token_to_id("▁").value()}}) {
    // A cost that grew with the length would make this minutes.
    EXPECT_LT(seconds_for(tokenizer, ids, 20000), 10.0) << ids.front();
  }
}

}  // namespace
}  // namespace octet
