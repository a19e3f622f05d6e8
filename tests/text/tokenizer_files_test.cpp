// SPDX-License-Identifier: Apache-2.0
// The files of a tokenizer: what is read from which, and what is refused with which words.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "octet/base/error.h"
#include "octet/text/tokenizer.h"
#include "tests/support/refusal.h"
#include "tests/text/text_files.h"

namespace octet {
namespace {

using nlohmann::ordered_json;
using test::golden_text;
using test::ModelFolder;
using test::refusal;
using testing::AllOf;
using testing::HasSubstr;

using Ids = std::vector<int32_t>;

/// A folder with the GPT-2 style golden tokenizer and the given configuration.
Ids encode_with(const std::string& family, const std::string& config, const std::string& text) {
  ModelFolder folder;
  folder.copy(golden_text() / "tokenizers" / family);
  folder.write("tokenizer_config.json", config);
  return Tokenizer::open(folder.path()).encode(text);
}

std::string refusal_of(const std::string& name, const std::string& content) {
  ModelFolder folder;
  folder.copy(golden_text() / "tokenizers" / "gpt2");
  folder.write(name, content);
  return refusal<FormatError>([&] { Tokenizer::open(folder.path()); });
}

TEST(TokenizerFiles, TheVocabularyFileDecidesAboutBosAndEosWhereThereIsOne) {
  const Ids expected = encode_with("llama3", "{}", "f");
  EXPECT_EQ(expected.size(), 2u);
  EXPECT_EQ(encode_with("llama3", R"({"bos_token": "<s>", "add_bos_token": false})", "f"), expected);
  EXPECT_EQ(encode_with("llama3", R"({"eos_token": "</s>", "add_eos_token": true})", "f"), expected);
}

TEST(TokenizerFiles, ALlamaClassOfALlamaModelDoublesNoBlank) {
  ModelFolder folder;
  folder.copy(golden_text() / "tokenizers" / "sentencepiece");
  const Ids doubled = Tokenizer::open(folder.path()).encode(" fox");
  folder.write("config.json", R"({"model_type": "llama"})");
  EXPECT_EQ(Tokenizer::open(folder.path()).encode(" fox"), doubled);
  folder.write("tokenizer_config.json", R"({"tokenizer_class": "LlamaTokenizerFast"})");
  EXPECT_EQ(Tokenizer::open(folder.path()).encode(" fox"), Tokenizer::open(folder.path()).encode("fox"));
  folder.write("tokenizer_config.json", R"({"tokenizer_class": "LlamaTokenizerFast", "legacy": true})");
  EXPECT_EQ(Tokenizer::open(folder.path()).encode(" fox"), Tokenizer::open(folder.path()).encode("fox"));
  folder.write("tokenizer_config.json",
               R"({"tokenizer_class": "LlamaTokenizer", "add_prefix_space": false})");
  EXPECT_NE(Tokenizer::open(folder.path()).encode(" fox"), Tokenizer::open(folder.path()).encode("fox"));
}

TEST(TokenizerFiles, ConfigurationAddsTokensThatTheVocabularyLacks) {
  ModelFolder folder;
  folder.copy(golden_text() / "tokenizers" / "gpt2");
  folder.write(
      "tokenizer_config.json",
      R"({"added_tokens_decoder": {"500": {"content": "<new>", "special": true}}, "pad_token": "<pad>"})");
  const Tokenizer tokenizer = Tokenizer::open(folder.path());
  const int32_t added = tokenizer.token_to_id("<new>").value();
  EXPECT_EQ(tokenizer.encode("<new><pad>"), (Ids{added, added + 1}));
  EXPECT_EQ(tokenizer.vocab_size(), added + 2);
}

TEST(TokenizerFiles, SplitSpecialTokensMakesThemText) {
  EXPECT_GT(encode_with("gpt2", R"({"split_special_tokens": true})", "<|end|>").size(), 1u);
  EXPECT_EQ(encode_with("gpt2", R"({"split_special_tokens": false})", "<|end|>").size(), 1u);
}

TEST(TokenizerFiles, AssemblesVocabularyAndMergesAsGpt2AndOptHaveThem) {
  const auto source = golden_text() / "tokenizers" / "gpt2";
  const auto json = ordered_json::parse(test::read_file(source / "tokenizer.json"));
  std::string merges = "#version: 0.2\n";
  for (const auto& pair : json["model"]["merges"])
    merges += pair[0].get<std::string>() + " " + pair[1].get<std::string>() + "\n";
  ordered_json vocab = json["model"]["vocab"];
  vocab["</s>"] = vocab.size();
  ModelFolder folder;
  EXPECT_FALSE(Tokenizer::present(folder.path()));
  folder.write("vocab.json", vocab.dump());
  folder.write("merges.txt", merges);
  folder.write("tokenizer_config.json", R"({"bos_token": {"content": "</s>"}, "add_bos_token": true})");
  EXPECT_TRUE(Tokenizer::present(folder.path()));
  const Tokenizer assembled = Tokenizer::open(folder.path());
  const std::string text = "The quick brown fox, 1859!\n漢字";
  EXPECT_EQ(assembled.encode(text, false), Tokenizer::open(source).encode(text, false));
  EXPECT_EQ(assembled.encode("").front(), assembled.token_to_id("</s>").value());
  EXPECT_EQ(assembled.decode(assembled.encode(text)), text);
  folder.write("tokenizer_config.json",
               R"({"eos_token": "</s>", "bos_token": "</s>", "add_eos_token": true})");
  const Tokenizer with_end = Tokenizer::open(folder.path());
  EXPECT_EQ(with_end.encode(""), Ids{with_end.eos_token_id().value()});
}

TEST(TokenizerFiles, RefusesAFolderWithoutATokenizer) {
  ModelFolder folder;
  EXPECT_FALSE(Tokenizer::present(folder.path()));
  EXPECT_THAT(refusal<FormatError>([&] { Tokenizer::open(folder.path()); }),
              AllOf(HasSubstr(folder.path().string()),
                    HasSubstr("expected tokenizer.json, tekken.json, or vocab.json with merges.txt")));
}

TEST(TokenizerFiles, RefusesAMergeOfNoTokensWithoutPassingItsControlCharactersOn) {
  ModelFolder folder;
  folder.write("vocab.json", R"({"a": 0, "b": 1})");
  folder.write("merges.txt", "a \x1b[31m\xc2\x9b\x7f\n");
  const std::string message = refusal<FormatError>([&] { Tokenizer::open(folder.path()); });
  EXPECT_THAT(message, HasSubstr("\\x1b[31m\\x9b\\x7f` out of vocabulary"));
  EXPECT_EQ(message.find_first_of("\x1b\x7f\xc2"), std::string::npos) << message;
}

TEST(TokenizerFiles, RefusesAVocabularyThatIsCutShort) {
  const std::string whole = test::read_file(golden_text() / "tokenizers" / "gpt2" / "tokenizer.json");
  for (size_t size = 0; size + 2 < whole.size(); size += whole.size() / 16) {
    EXPECT_THAT(refusal_of("tokenizer.json", whole.substr(0, size)), HasSubstr("tokenizer.json: ")) << size;
  }
}

TEST(TokenizerFiles, RefusesWrongTypesEverywhereInTheVocabularyFile) {
  const auto whole =
      ordered_json::parse(test::read_file(golden_text() / "tokenizers" / "gpt2" / "tokenizer.json"));
  const std::vector<std::pair<std::string, ordered_json>> changes = {
      {"/model", 5},
      {"/model/vocab", ordered_json::array({1})},
      {"/model/vocab/a", -1},
      {"/model/vocab/a", 1e30},
      {"/model/merges", "x"},
      {"/model/merges", {"a b c d"}},
      {"/model/merges", {{"no", "such"}}},
      {"/pre_tokenizer", {{"type", "Nothing"}}},
      {"/decoder", 1},
      {"/added_tokens", {{{"id", "x"}}}},
      {"/normalizer", {{"type", "Replace"}, {"pattern", {{"Regex", "("}}}, {"content", ""}}}};
  for (const auto& [path, value] : changes) {
    ordered_json changed = whole;
    changed[ordered_json::json_pointer(path)] = value;
    EXPECT_THAT(refusal_of("tokenizer.json", changed.dump()), HasSubstr("tokenizer.json: ")) << path << value;
  }
}

TEST(TokenizerFiles, RefusesNestingWithoutEnd) {
  EXPECT_THAT(refusal_of("tokenizer.json", std::string(1 << 20, '[')), HasSubstr("tokenizer.json: "));
  std::string deep;
  for (int i = 0; i < 100000; ++i) deep += R"({"type":"Sequence","normalizers":[)";
  EXPECT_THAT(refusal_of("tokenizer.json", R"({"version":"1.0","model":{},"normalizer":)" + deep),
              HasSubstr("tokenizer.json: "));
  EXPECT_THAT(refusal_of("tokenizer_config.json", std::string(1 << 20, '[')),
              HasSubstr("at most 256 nested"));
}

TEST(TokenizerFiles, RefusesFilesThatAreNotText) {
  EXPECT_THAT(refusal_of("tokenizer.json", "\xff\xfe"), HasSubstr("tokenizer.json: is not UTF-8"));
  EXPECT_THAT(refusal_of("tokenizer.json", ""), HasSubstr("tokenizer.json: "));
  EXPECT_THAT(refusal_of("tokenizer_config.json", "null"),
              HasSubstr("tokenizer_config.json: expected a JSON object"));
}

TEST(TokenizerFiles, RefusesWrongTypesInTheConfigurationByField) {
  EXPECT_THAT(
      refusal_of("tokenizer_config.json", R"({"add_bos_token": "yes"})"),
      HasSubstr("tokenizer_config.json: field add_bos_token: expected true or false, found a string"));
  EXPECT_THAT(refusal_of("tokenizer_config.json", R"({"eos_token": ["x"]})"),
              HasSubstr("field eos_token: expected a string or an object with \"content\", found a list"));
  EXPECT_THAT(refusal_of("tokenizer_config.json", R"({"extra_special_tokens": 5})"),
              HasSubstr("field extra_special_tokens"));
  EXPECT_THAT(refusal_of("tokenizer_config.json", R"({"added_tokens_decoder": {"x": {}}})"),
              HasSubstr("field added_tokens_decoder: expected token ids as keys, found \"x\""));
  EXPECT_THAT(refusal_of("special_tokens_map.json", R"({"bos_token": 5})"),
              HasSubstr("special_tokens_map.json: field bos_token"));
}

TEST(TokenizerFiles, IgnoresOtherFieldsThatOnlySoundLikeTokens) {
  EXPECT_EQ(refusal_of("tokenizer_config.json", R"({"dollars_per_token": 5, "image_token": "<image>"})"),
            "accepted");
}

TEST(TokenizerFiles, RefusesAFolderInTheFilesPlace) {
  ModelFolder folder;
  folder.write("tokenizer.json/inside", "x");
  EXPECT_THAT(refusal<FormatError>([&] { Tokenizer::open(folder.path()); }), HasSubstr("expected a file"));
}

TEST(TokenizerFiles, AllocatesNothingForAnIdThatTheFileClaims) {
  ModelFolder folder;
  folder.copy(golden_text() / "tokenizers" / "gpt2");
  auto json = ordered_json::parse(test::read_file(folder.path() / "tokenizer.json"));
  json["model"]["vocab"]["a far token"] = 2147483646;
  folder.write("tokenizer.json", json.dump());
  const Tokenizer tokenizer = Tokenizer::open(folder.path());
  EXPECT_EQ(tokenizer.vocab_size(), 2147483647);
  EXPECT_EQ(tokenizer.decode(Ids{2147483646, 2000000000}), "a far token");
  EXPECT_EQ(tokenizer.piece(2000000000), "");
}

}  // namespace
}  // namespace octet
