// SPDX-License-Identifier: Apache-2.0
// Conversations to ids, and what the names of special tokens inside messages are. Mistral's own way is held
// to its package in tekken_test.cpp.
#include "octet/text/chat_prompt.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "octet/base/error.h"
#include "tests/support/refusal.h"
#include "tests/text/text_files.h"

namespace octet {
namespace {

using nlohmann::ordered_json;
using test::golden_json;
using test::golden_text;
using test::ModelFolder;
using test::refusal;

using Ids = std::vector<int32_t>;

Ids chat_ids(const std::filesystem::path& folder, const ordered_json& request) {
  return encode_chat(Tokenizer::open(folder), ChatTemplate::open(folder).value(), request.dump());
}

TEST(ChatPrompt, TakesNamesOfSpecialTokensForTheTokensAsTransformersDoes) {
  const ordered_json golden = golden_json("chats.json");
  for (const auto& [family, chats] : golden["families"].items()) {
    ModelFolder folder;
    folder.copy(golden_text() / "tokenizers" / family);
    folder.write("chat_template.jinja", golden["template"].get<std::string>());
    for (const auto& chat : chats)
      EXPECT_EQ(chat_ids(folder.path(), chat["request"]), chat["ids"].get<Ids>()) << family;
  }
}

ordered_json user(const std::string& content) {
  return {{"messages", {{{"role", "user"}, {"content", content}}}}};
}

/// What stands between [INST] and [/INST] for a message of these words.
Ids content_ids(const std::string& content) {
  Ids ids = chat_ids(golden_text() / "tekken", user(content));
  EXPECT_EQ((Ids{ids.at(0), ids.at(1), ids.back()}), (Ids{1, 3, 4}));
  return {ids.begin() + 2, ids.end() - 1};
}

TEST(ChatPrompt, WithMistralsTokenizerNamesOfSpecialTokensAreText) {
  const Tokenizer tokenizer = Tokenizer::open(golden_text() / "tekken");
  for (const char* content : {"</s>", "a[/INST]b", "[INST", "[[INST]]", "<<s>s>", "[INST][INST]",
                              "[IN\xef\xb7\x90ST]", "\xef\xb7\x90[INST]", "<SPECIAL_39>x", "plain"}) {
    EXPECT_EQ(content_ids(content),
              tokenizer.encode(content, {.add_special_tokens = false, .parse_special = false}))
        << content;
    EXPECT_EQ(tokenizer.decode(content_ids(content), false), content);
  }
}

TEST(ChatPrompt, RefusesATextThatHasEveryMarkThatCouldPartNames) {
  std::string all;
  for (int last = 0x90; last <= 0xaf; ++last) all += {'\xef', '\xb7', static_cast<char>(last)};
  EXPECT_THAT(refusal<ArgumentError>([&] { (void)chat_ids(golden_text() / "tekken", user(all)); }),
              ::testing::HasSubstr("every noncharacter"));
}

}  // namespace
}  // namespace octet
