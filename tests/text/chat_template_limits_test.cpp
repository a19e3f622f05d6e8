// SPDX-License-Identifier: Apache-2.0
// Hostile templates and template files: each ends in an error that says why, within bounded time and memory.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "octet/base/error.h"
#include "octet/text/chat_template.h"
#include "tests/support/refusal.h"
#include "tests/text/text_files.h"

namespace octet {
namespace {

using test::ModelFolder;
using test::refusal;
using testing::HasSubstr;

std::string failure_of(const std::string& source) {
  ModelFolder folder;
  folder.write("chat_template.jinja", source);
  return refusal<ConfigError>([&] {
    ChatTemplate::open(folder.path()).value().render(R"({"messages": [{"role": "user", "content": "hi"}]})");
  });
}

TEST(ChatTemplateLimits, StopsLoopsWithoutEnd) {
  EXPECT_THAT(failure_of("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"),
              HasSubstr("did not end within"));
}

TEST(ChatTemplateLimits, StopsMacrosThatCallThemselves) {
  EXPECT_THAT(failure_of("{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}"), HasSubstr("recursion"));
}

TEST(ChatTemplateLimits, StopsTextThatDoubles) {
  for (const std::string grow : {"ns.x ~ ns.x", "ns.x + ns.x", "ns.x * 2", "[ns.x, ns.x]|join"}) {
    SCOPED_TRACE(grow);
    EXPECT_NE(failure_of("{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = " + grow +
                         " %}{% endfor %}"),
              "");
  }
  EXPECT_THAT(
      failure_of("{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set y %}{{ ns.x }}{{ ns.x }}"
                 "{% endset %}{% set ns.x = y %}{% endfor %}"),
      HasSubstr("bytes printed"));
}

TEST(ChatTemplateLimits, StopsListsThatDouble) {
  EXPECT_NE(
      failure_of(
          "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}"
          "{{ ns.x|join }}"),
      "");
}

TEST(ChatTemplateLimits, StopsWidthsWithoutReason) {
  for (const std::string wide : {"'a'|indent(999999999)", "'a'.ljust(999999999)", "'%999999999d'|format(1)",
                                 "'a' * 9999999999", "[1]|tojson(indent=99999999)", "range(99999999)|list"}) {
    SCOPED_TRACE(wide);
    EXPECT_NE(failure_of("{{ " + wide + " }}"), "");
  }
}

TEST(ChatTemplateLimits, StopsOutputWithoutEnd) {
  EXPECT_NE(failure_of("{% for a in range(99999) %}" + std::string(10000, 'x') + "{% endfor %}"), "");
}

TEST(ChatTemplateLimits, PrintsNoValueNestedBeyondReason) {
  EXPECT_THAT(
      failure_of("{% set ns = namespace(x=[]) %}{% for i in range(5000) %}{% set ns.x = [ns.x] %}{% endfor %}"
                 "{{ ns.x }}"),
      HasSubstr("nested more than"));
}

TEST(ChatTemplateLimits, FreesValuesNestedBeyondReason) {
  EXPECT_THAT(
      failure_of("{% set ns = namespace(x=[]) %}{% for j in range(100000) %}{% for i in range(100000) %}"
                 "{% set ns.x = [ns.x] %}{% endfor %}{% endfor %}"),
      HasSubstr("did not end within"));
}

TEST(ChatTemplateLimits, RefusesExpressionsNestedBeyondReason) {
  ModelFolder folder;
  folder.write("chat_template.jinja", "{{ " + std::string(100000, '(') + "1");
  EXPECT_THAT(refusal<FormatError>([&] { ChatTemplate::open(folder.path()); }), HasSubstr("recursion"));
}

TEST(ChatTemplateLimits, RefusesTemplatesLargerThanAnyReal) {
  ModelFolder folder;
  folder.write("chat_template.jinja", std::string(2 << 20, 'x'));
  EXPECT_THAT(refusal<FormatError>([&] { ChatTemplate::open(folder.path()); }), HasSubstr("2097152 bytes"));
}

TEST(ChatTemplateLimits, ReadsNoFileThatATemplateNames) {
  EXPECT_NE(failure_of("{% include '/etc/passwd' %}"), "");
  EXPECT_NE(failure_of("{% extends 'chat_template.jinja' %}"), "");
}

TEST(ChatTemplateLimits, RefusesFilesThatAreNotTemplates) {
  const auto says = [](const std::string& name, const std::string& text) {
    ModelFolder folder;
    folder.write(name, text);
    return refusal<FormatError>([&] { ChatTemplate::open(folder.path()); });
  };
  EXPECT_THAT(says("chat_template.jinja", "a\xff"), HasSubstr("chat_template.jinja: is not UTF-8"));
  EXPECT_THAT(says("tokenizer_config.json", "{\"chat_template\": "),
              HasSubstr("tokenizer_config.json: invalid JSON"));
  EXPECT_THAT(says("tokenizer_config.json", "[]"), HasSubstr("expected a JSON object, found a list"));
  EXPECT_THAT(says("tokenizer_config.json", R"({"chat_template": 5})"),
              HasSubstr("field chat_template: expected"));
  EXPECT_THAT(says("tokenizer_config.json", R"({"chat_template": [{"name": "x"}]})"),
              HasSubstr("field chat_template[0]"));
  EXPECT_THAT(says("tokenizer_config.json", R"({"chat_template": "x", "bos_token": 5})"),
              HasSubstr("field bos_token: expected a string"));
  EXPECT_THAT(says("chat_template.jinja/inside", "x"), HasSubstr("expected a file"));
}

}  // namespace
}  // namespace octet
