// SPDX-License-Identifier: Apache-2.0
#include "octet/text/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "octet/base/error.h"
#include "tests/support/refusal.h"
#include "tests/text/text_files.h"

namespace octet {
namespace {

using nlohmann::ordered_json;
using test::golden_json;
using test::ModelFolder;
using test::refusal;
using testing::EndsWith;
using testing::HasSubstr;

constexpr const char* kHello = R"({"messages": [{"role": "user", "content": "hi"}]})";

/// What transformers and Octet make of one request: a text, the template's own words, or some other failure.
struct Outcome {
  std::string text;
  std::string refusal;
  bool failed = false;
};

Outcome render(const ModelFolder& folder, const std::string& request) {
  Outcome outcome;
  try {
    outcome.text = ChatTemplate::open(folder.path()).value().render(request);
  } catch (const Error& error) {
    outcome.failed = true;
    outcome.refusal = error.what();
  }
  return outcome;
}

void expect_as_transformers(const ModelFolder& folder, const std::string& request,
                            const ordered_json& expected) {
  const Outcome found = render(folder, request);
  if (expected.contains("text")) {
    EXPECT_FALSE(found.failed) << found.refusal;
    EXPECT_EQ(found.text, expected["text"].get<std::string>());
    return;
  }
  EXPECT_TRUE(found.failed) << "transformers fails, Octet wrote: " << found.text;
  if (expected["error"].is_string()) {
    EXPECT_THAT(found.refusal, HasSubstr(" refuses the conversation"));
    EXPECT_THAT(found.refusal, EndsWith(": " + expected["error"].get<std::string>()));
  }
}

TEST(ChatTemplate, RendersEveryConversationAsTransformersDoes) {
  const ordered_json golden = golden_json("rendered.json");
  for (const auto& [name, outcomes] : golden["rendered"].items()) {
    ModelFolder folder;
    folder.write("tokenizer_config.json", golden["special_tokens"].dump());
    folder.write("chat_template.jinja", test::read_file(test::golden_text() / "templates" / name));
    for (const auto& [request, expected] : outcomes.items()) {
      SCOPED_TRACE(name + " with " + request);
      expect_as_transformers(folder, golden["requests"][request], expected);
    }
  }
}

TEST(ChatTemplate, RendersEachConstructAsTransformersDoes) {
  const ordered_json golden = golden_json("rendered.json");
  for (const auto& probe : golden["probes"]) {
    SCOPED_TRACE(probe["template"].get<std::string>());
    ModelFolder folder;
    folder.write("tokenizer_config.json", golden["special_tokens"].dump());
    folder.write("chat_template.jinja", probe["template"].get<std::string>());
    expect_as_transformers(folder, golden["probe_request"], probe);
  }
}

TEST(ChatTemplate, IsAbsentWhereTheFolderHasNone) {
  ModelFolder folder;
  EXPECT_FALSE(ChatTemplate::open(folder.path()).has_value());
  folder.write("tokenizer_config.json", R"({"bos_token": "<s>", "chat_template": null})");
  EXPECT_FALSE(ChatTemplate::open(folder.path()).has_value());
}

TEST(ChatTemplate, TakesTheFileBeforeTheConfiguration) {
  ModelFolder folder;
  folder.write("tokenizer_config.json", R"({"chat_template": "from the configuration"})");
  EXPECT_EQ(ChatTemplate::open(folder.path()).value().render(kHello), "from the configuration");
  folder.write("chat_template.jinja", "from the file");
  EXPECT_EQ(ChatTemplate::open(folder.path()).value().render(kHello), "from the file");
}

TEST(ChatTemplate, ChoosesAmongNamedTemplatesByToolsAndByName) {
  ModelFolder folder;
  folder.write(
      "tokenizer_config.json",
      R"({"chat_template": [{"name": "default", "template": "D"}, {"name": "tool_use", "template": "T"},
                   {"name": "rag", "template": "R"}]})");
  const ChatTemplate chat = ChatTemplate::open(folder.path()).value();
  EXPECT_EQ(chat.render(kHello), "D");
  EXPECT_EQ(chat.render(R"({"messages": [{"role": "user"}], "tools": []})"), "T");
  EXPECT_EQ(chat.render(R"({"messages": [{"role": "user"}], "tools": null})"), "D");
  EXPECT_EQ(chat.render(R"({"messages": [{"role": "user"}], "chat_template": "rag", "tools": []})"), "R");
  EXPECT_THAT(refusal<ConfigError>([&] { chat.render(R"({"messages": [{}], "chat_template": "other"})"); }),
              HasSubstr("\"other\"; there are: default, tool_use, rag"));
}

TEST(ChatTemplate, ReadsAdditionalTemplatesFromTheirFolder) {
  ModelFolder folder;
  folder.write("additional_chat_templates/tool_use.jinja", "T");
  folder.write("tokenizer_config.json", R"({"chat_template": "C"})");
  const ChatTemplate lone = ChatTemplate::open(folder.path()).value();
  EXPECT_EQ(lone.render(R"({"messages": [{}], "tools": []})"), "T");
  EXPECT_THAT(refusal<ConfigError>([&] { lone.render(kHello); }), HasSubstr("none is named \"default\""));
  folder.write("chat_template.jinja", "D");
  EXPECT_EQ(ChatTemplate::open(folder.path()).value().render(kHello), "D");
}

TEST(ChatTemplate, KnowsSpecialTokensFromBothFiles) {
  ModelFolder folder;
  folder.write("chat_template.jinja",
               "{{ bos_token }}|{{ eos_token }}|{{ image_token }}|{{ pad_token is defined }}");
  folder.write("tokenizer_config.json",
               R"({"bos_token": "<a>", "eos_token": {"content": "<b>"}, "pad_token": null})");
  EXPECT_EQ(ChatTemplate::open(folder.path()).value().render(kHello), "<a>|<b>||False");
  folder.write("special_tokens_map.json", R"({"bos_token": "<c>", "image_token": {"content": "<i>"}})");
  EXPECT_EQ(ChatTemplate::open(folder.path()).value().render(kHello), "<c>|<b>|<i>|False");
}

TEST(ChatTemplate, KnowsTheTime) {
  ModelFolder folder;
  folder.write("chat_template.jinja", "{{ strftime_now('%Y-%m-%d %H:%M') }}");
  EXPECT_THAT(ChatTemplate::open(folder.path()).value().render(kHello),
              testing::MatchesRegex("20[0-9][0-9]-[01][0-9]-[0-3][0-9] [0-2][0-9]:[0-5][0-9]"));
}

TEST(ChatTemplate, NamesFileAndLineOfATemplateThatDoesNotCompile) {
  ModelFolder folder;
  folder.write("chat_template.jinja", "one\ntwo\n{% if x %}\n{% endfor %}\n");
  EXPECT_THAT(refusal<FormatError>([&] { ChatTemplate::open(folder.path()); }),
              HasSubstr((folder.path() / "chat_template.jinja").string() + " (line 4): "));
}

TEST(ChatTemplate, NamesFileAndLineOfAFailureWhileRendering) {
  ModelFolder folder;
  folder.write("tokenizer_config.json", R"({"chat_template": "one\ntwo {{ nothing.at.all }}"})");
  EXPECT_THAT(refusal<ConfigError>([&] { ChatTemplate::open(folder.path()).value().render(kHello); }),
              HasSubstr("tokenizer_config.json (chat_template) (line 2): "));
}

TEST(ChatTemplate, RefusesRequestsThatAreNotConversations) {
  ModelFolder folder;
  folder.write("chat_template.jinja", "x");
  const ChatTemplate chat = ChatTemplate::open(folder.path()).value();
  const auto says = [&](const std::string& request) {
    return refusal<ArgumentError>([&] { chat.render(request); });
  };
  EXPECT_THAT(says("{\"messages\": ["), HasSubstr("invalid JSON at byte 14"));
  EXPECT_THAT(says("[]"), HasSubstr("expected an object with \"messages\""));
  EXPECT_THAT(says(R"({"messages": []})"), HasSubstr("at least one message"));
  EXPECT_THAT(says(R"({"messages": [{}, 5]})"), HasSubstr("messages[1]: expected an object, found a number"));
  EXPECT_THAT(says(R"({"messages": [{}], "tools": "x"})"), HasSubstr("tools: expected a list of objects"));
  EXPECT_THAT(says("{\"messages\": [{\"role\": \"\xff\"}]}"), HasSubstr("invalid byte at offset 24"));
  EXPECT_THAT(says("{\"messages\": " + std::string(100000, '[')), HasSubstr("at most 256 nested"));
}

}  // namespace
}  // namespace octet
