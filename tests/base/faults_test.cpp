// SPDX-License-Identifier: Apache-2.0
#include "octet/base/faults.h"

#include <gtest/gtest.h>

#include "octet/base/error.h"

namespace octet {
namespace {

TEST(Quote, EscapesWhatCouldSteerATerminal) {
  EXPECT_EQ(quote("a\x1b[2J\n\xff"), "'a\\x1b[2J\\x0a\\xff'");
}

TEST(Quote, CutsALongNameAndSaysHowLongItIs) {
  EXPECT_EQ(quote(std::string(5000, 'a'), 3), "'aaa...' (5000 bytes)");
  EXPECT_EQ(quote("aaa", 3), "'aaa'");
}

TEST(Faults, OneIsOneLine) {
  Faults faults;
  EXPECT_TRUE(faults.empty());
  EXPECT_NO_THROW(faults.throw_if_any<FormatError>("f"));
  faults.add("broken");
  EXPECT_EQ(faults.message("f"), "f: broken");
  EXPECT_THROW(faults.throw_if_any<FormatError>("f"), FormatError);
}

TEST(Faults, ManyAreCountedAndTheFirstTenShown) {
  Faults faults;
  for (int i = 0; i < 12; ++i) faults.add("fault " + std::to_string(i));
  const std::string message = faults.message("f");
  EXPECT_EQ(message.substr(0, 13), "f: 12 faults:");
  EXPECT_NE(message.find("fault 9"), std::string::npos);
  EXPECT_EQ(message.find("fault 10"), std::string::npos);
  EXPECT_NE(message.find("and 2 more"), std::string::npos);
}

}  // namespace
}  // namespace octet
