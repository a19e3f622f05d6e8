// SPDX-License-Identifier: Apache-2.0
// Mistral's own tokenizer file: ids as its own package gives them, conversations through a template, and what
// is refused. Remade by tools/make_tekken_golden.py.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "octet/base/error.h"
#include "octet/text/chat_prompt.h"
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

ordered_json golden() {
  return test::golden_json("tekken/golden.json");
}

void expect_cases(const Tokenizer& tokenizer, const ordered_json& cases) {
  int wrong = 0;
  for (const auto& expected : cases) {
    const std::string text = expected["text"];
    const Ids ids = expected["ids"];
    // Names of special tokens inside a text are text there.
    const Ids found = tokenizer.encode(text, {.add_special_tokens = false, .parse_special = false});
    wrong += found == ids && tokenizer.decode(ids) == text ? 0 : 1;
    if (wrong > 5) continue;  // the first few say enough
    EXPECT_EQ(found, ids) << expected["text"];
    EXPECT_EQ(tokenizer.decode(ids), text);
  }
  EXPECT_EQ(wrong, 0) << "of " << cases.size();
}

TEST(Tekken, GivesTheIdsOfMistralsOwnPackage) {
  const Tokenizer tokenizer = Tokenizer::open(golden_text() / "tekken");
  EXPECT_EQ(tokenizer.vocab_size(), golden()["size"].get<int64_t>());
  EXPECT_EQ(tokenizer.bos_token_id(), 1);
  EXPECT_EQ(tokenizer.eos_token_id(), 2);
  EXPECT_EQ(tokenizer.token_to_id("[TOOL_CONTENT]"), 19);
  EXPECT_EQ(tokenizer.token_to_id("<SPECIAL_39>"), 39);
  expect_cases(tokenizer, golden()["cases"]);
}

TEST(Tekken, PutsBosBeforeAPromptAndReadsTheNamesOfSpecialTokensWhereAsked) {
  const Tokenizer tokenizer = Tokenizer::open(golden_text() / "tekken");
  const Ids text = tokenizer.encode("fox", false);
  Ids expected = {1};
  expected.insert(expected.end(), text.begin(), text.end());
  EXPECT_EQ(tokenizer.encode("fox"), expected);
  EXPECT_EQ(tokenizer.encode("[INST][/INST]</s>", false), (Ids{3, 4, 2}));
  EXPECT_EQ(tokenizer.decode(Ids{3, 4, 2}), "");
}

TEST(Tekken, ConversationsThroughATemplateGiveTheIdsOfMistralsOwnPackage) {
  const Tokenizer tokenizer = Tokenizer::open(golden_text() / "tekken");
  const auto chat_template = ChatTemplate::open(golden_text() / "tekken");
  ASSERT_TRUE(chat_template);
  const ordered_json chats = golden()["chats"];
  ASSERT_GE(chats.size(), 5U);
  for (const auto& chat : chats) {
    EXPECT_EQ(encode_chat(tokenizer, *chat_template, chat["request"].dump()), chat["ids"].get<Ids>())
        << chat["request"];
  }
}

/// A larger run: OCTET_TEKKEN_CASES names a folder that tools/make_tekken_golden.py --check wrote.
TEST(Tekken, GivesTheIdsOfAFolderOfCases) {
  const char* folder = std::getenv("OCTET_TEKKEN_CASES");
  if (folder == nullptr) GTEST_SKIP() << "OCTET_TEKKEN_CASES names no folder of cases";
  const auto json = ordered_json::parse(test::read_file(std::filesystem::path(folder) / "golden.json"));
  const Tokenizer tokenizer = Tokenizer::open(folder);
  EXPECT_EQ(tokenizer.vocab_size(), json["size"].get<int64_t>());
  expect_cases(tokenizer, json["cases"]);
}

/// What opening says of the golden file after `change`.
std::string refusal_after(const std::function<void(ordered_json&)>& change) {
  auto json = ordered_json::parse(test::read_file(golden_text() / "tekken" / "tekken.json"));
  change(json);
  ModelFolder folder;
  folder.write("tekken.json", json.dump());
  return refusal<FormatError>([&] { Tokenizer::open(folder.path()); });
}

TEST(Tekken, AFileWithoutAListOfSpecialTokensHasThoseOfTheFirstVersions) {
  auto json = ordered_json::parse(test::read_file(golden_text() / "tekken" / "tekken.json"));
  json.erase("special_tokens");
  ModelFolder folder;
  folder.write("tekken.json", json.dump());
  EXPECT_TRUE(Tokenizer::present(folder.path()));
  const Tokenizer tokenizer = Tokenizer::open(folder.path());
  EXPECT_EQ(tokenizer.encode("The fox", false),
            Tokenizer::open(golden_text() / "tekken").encode("The fox", false));
  EXPECT_EQ(tokenizer.token_to_id("[SYSTEM_PROMPT]"), 17);
}

TEST(Tekken, RefusesHolesAndRanksThatOccurTwice) {
  const std::string rule = "ranks follow each other without holes, none twice";
  EXPECT_THAT(refusal_after([](auto& json) { json["vocab"].erase(300); }),
              AllOf(HasSubstr("tekken.json: "), HasSubstr("vocab[300]: expected rank 300, found 301"),
                    HasSubstr(rule)));
  EXPECT_THAT(refusal_after([](auto& json) { json["vocab"][300]["rank"] = 299; }),
              AllOf(HasSubstr("vocab[300]: expected rank 300, found 299"), HasSubstr(rule)));
  EXPECT_THAT(refusal_after([](auto& json) { json["vocab"][300].erase("rank"); }),
              HasSubstr("expected rank 300, found nothing"));
  EXPECT_THAT(refusal_after(
                  [](auto& json) { json["vocab"][301]["token_bytes"] = json["vocab"][300]["token_bytes"]; }),
              HasSubstr("vocab[300] and vocab[301] hold the same bytes"));
  EXPECT_THAT(refusal_after([](auto& json) {
                std::swap(json["vocab"][3]["token_bytes"], json["vocab"][4]["token_bytes"]);
              }),
              AllOf(HasSubstr("2 faults"), HasSubstr("vocab[3]: expected the byte 3")));
  EXPECT_THAT(refusal_after([](auto& json) { json["special_tokens"].erase(5); }),
              AllOf(HasSubstr("expected rank 5, found 6"), HasSubstr(rule)));
  EXPECT_THAT(refusal_after([](auto& json) { json["special_tokens"][5]["token_str"] = "<s>"; }),
              HasSubstr("special tokens 1 and 5 are both \"<s>\""));
}

TEST(Tekken, RefusesWrongFields) {
  EXPECT_THAT(refusal_after([](auto& json) { json.erase("config"); }),
              HasSubstr("field config: expected an object"));
  EXPECT_THAT(refusal_after([](auto& json) { json.erase("vocab"); }),
              HasSubstr("field vocab: expected a list"));
  EXPECT_THAT(refusal_after([](auto& json) { json["config"]["default_vocab_size"] = 1e30; }),
              HasSubstr("field config.default_vocab_size: expected an integer"));
  EXPECT_THAT(refusal_after([](auto& json) { json["config"]["default_vocab_size"] = 100000; }),
              HasSubstr("field vocab: expected 99960 tokens"));
  EXPECT_THAT(refusal_after([](auto& json) { json["config"]["default_vocab_size"] = 7; }),
              HasSubstr("a vocabulary larger than its 40 special tokens"));
  EXPECT_THAT(refusal_after([](auto& json) {
                json["special_tokens"].push_back({{"rank", 20}, {"token_str", "x"}});
                json["config"]["default_num_special_tokens"] = 20;
                json["config"]["default_vocab_size"] = 500;
              }),
              HasSubstr("field special_tokens: expected at most 20"));
  EXPECT_THAT(refusal_after([](auto& json) { json["vocab"][299]["token_bytes"] = "a*"; }),
              HasSubstr("vocab[299]: token_bytes: expected bytes in base64"));
  EXPECT_THAT(refusal_after([](auto& json) { json["config"]["pattern"] = "(["; }),
              HasSubstr("field config.pattern: cannot be compiled"));
  ModelFolder folder;
  folder.write("tekken.json", "{\"config\": ");
  EXPECT_THAT(refusal<FormatError>([&] { Tokenizer::open(folder.path()); }), HasSubstr("tekken.json: "));
}

}  // namespace
}  // namespace octet
