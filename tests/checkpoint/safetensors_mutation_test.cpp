// SPDX-License-Identifier: Apache-2.0
/// A small fuzz of the header: whatever is done to a valid one, it is read or refused, and what is read is
/// consistent.
#include <gtest/gtest.h>

#include <random>

#include "octet/base/error.h"
#include "octet/checkpoint/safetensors_header.h"
#include "tests/support/safetensors_text.h"

namespace octet {
namespace {

constexpr int64_t kDataBytes = 58;

std::string valid_header() {
  return "{\"__metadata__\":{\"format\":\"pt\"}," + entry("model.a", "BF16", "[3,5]", 0, 30) + "," +
         entry("b", "F8_E4M3", "[4,1,7]", 30, 58) + "," + entry("c", "F32", "[0]", 58, 58) + "}   ";
}

/// Returns whether it was read.
bool parses(const std::string& text) {
  SafetensorsHeader header;
  try {
    header = parse_safetensors_header(text, "fuzz", 8, kDataBytes);
  } catch (const FormatError&) {
    return false;
  }
  int64_t end = 8;
  for (const TensorInfo& tensor : header.tensors) {
    EXPECT_EQ(tensor.offset, end) << text;
    EXPECT_GE(tensor.bytes, 0) << text;
    end += tensor.bytes;
  }
  EXPECT_EQ(end, 8 + kDataBytes) << text;
  return true;
}

class Mutator {
 public:
  explicit Mutator(uint64_t seed) : random_(seed) {}

  std::string mutate(std::string text) {
    for (size_t times = below(4) + 1; times-- > 0;) once(text);
    return text;
  }

 private:
  size_t below(size_t end) { return static_cast<size_t>(random_() % end); }

  void once(std::string& text) {
    static constexpr std::string_view kPieces[] = {"[",
                                                   "]",
                                                   "{",
                                                   "}",
                                                   ",",
                                                   ":",
                                                   "\"",
                                                   "\\u0000",
                                                   "\\ud800",
                                                   "-",
                                                   "9223372036854775807",
                                                   "18446744073709551616",
                                                   "1e999",
                                                   "null",
                                                   "\xff",
                                                   "0",
                                                   "1",
                                                   "\"F64\"",
                                                   "__metadata__"};
    const size_t at = text.empty() ? 0 : below(text.size());
    switch (text.empty() ? 2 : below(6)) {
      case 0:
        text[at] = static_cast<char>(random_() & 0xff);
        break;
      case 1:
        text.erase(at, below(20) + 1);
        break;
      case 2:
        text.insert(at, kPieces[below(std::size(kPieces))]);
        break;
      case 3:
        text.insert(below(text.size()), text.substr(at, below(40)));
        break;
      case 4:
        text[at] = static_cast<char>(text[at] ^ (1 << below(8)));
        break;
      default:
        text[at] = static_cast<char>('0' + below(10));
        break;
    }
  }

  std::mt19937_64 random_;
};

TEST(SafetensorsMutation, TheUnchangedHeaderIsRead) {
  EXPECT_TRUE(parses(valid_header()));
}

TEST(SafetensorsMutation, TwentyThousandChangedHeadersAreReadOrRefused) {
  Mutator mutator(20261121);
  int read = 0;
  for (int i = 0; i < 20000; ++i) read += parses(mutator.mutate(valid_header())) ? 1 : 0;
  EXPECT_GT(read, 100);  // changes of a name or of the spaces are no fault
  EXPECT_LT(read, 10000);
}

TEST(SafetensorsMutation, EveryPrefixIsRefused) {
  const std::string text = valid_header();
  for (size_t length = 0; length < text.size() - 3; ++length)
    EXPECT_FALSE(parses(text.substr(0, length))) << length;
}

}  // namespace
}  // namespace octet
