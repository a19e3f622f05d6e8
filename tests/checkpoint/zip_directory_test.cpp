// SPDX-License-Identifier: Apache-2.0
#include "octet/checkpoint/zip_directory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "octet/base/error.h"
#include "tests/support/refusal.h"
#include "tests/support/temp_folder.h"
#include "tests/support/zip_text.h"

namespace octet {
namespace {

using ::testing::HasSubstr;

const std::vector<ZipPart> kParts = {{.name = "a/x", .data = "hello"}, {.name = "a/y", .data = ""}};

std::string content(const FileReader& file, const std::string& name) {
  const ZipExtent extent = ZipDirectory(file).locate(name);
  std::string text(static_cast<size_t>(extent.bytes), '\0');
  file.read_at(extent.offset, std::as_writable_bytes(std::span(text)));
  return text;
}

std::string refusal_of_zip(const std::string& archive, const std::string& name = "a/x") {
  const TempFolder folder;
  const FileReader file(folder.write("z", archive));
  return test::refusal<FormatError>([&] { (void)content(file, name); });
}

TEST(ZipDirectory, FindsMembersWithNarrowAndWideSizes) {
  const TempFolder folder;
  for (const bool wide_end : {false, true}) {
    const FileReader file(folder.write(
        "z", zip_text({kParts[0], {.name = "b", .data = "wide", .wide = true}, kParts[1]}, wide_end)));
    EXPECT_EQ(ZipDirectory(file).members().size(), 3U);
    EXPECT_EQ(content(file, "a/x"), "hello");
    EXPECT_EQ(content(file, "b"), "wide");
    EXPECT_EQ(content(file, "a/y"), "");
  }
}

TEST(ZipDirectory, RefusesWhatIsCompressedOrEncrypted) {
  EXPECT_THAT(refusal_of_zip(zip_text({{.name = "a/x", .data = "z", .method = 8}})),
              HasSubstr("member 'a/x' is compressed (method 8), expected it as it is"));
  EXPECT_THAT(refusal_of_zip(zip_text({{.name = "a/x", .data = "z", .flags = 1}})),
              HasSubstr("member 'a/x' is encrypted"));
}

TEST(ZipDirectory, RefusesMissingAndDoubledMembers) {
  EXPECT_THAT(refusal_of_zip(zip_text(kParts), "ghost"), HasSubstr("the archive has no member 'ghost'"));
  EXPECT_THAT(refusal_of_zip(zip_text({kParts[0], kParts[0]})), HasSubstr("two members 'a/x'"));
}

TEST(ZipDirectory, RefusesAnArchiveWithoutAnEnd) {
  const std::string whole = zip_text(kParts);
  for (size_t length = 0; length < whole.size(); ++length) {
    EXPECT_THAT(refusal_of_zip(whole.substr(0, length)), HasSubstr("cut short")) << length;
  }
}

TEST(ZipDirectory, RefusesPlacesAndCountsBeyondTheFile) {
  const std::string whole = zip_text(kParts);
  const size_t end = whole.size() - 22;
  const auto with = [&](size_t at, const std::string& bytes) {
    std::string text = whole;
    return text.replace(at, bytes.size(), bytes);
  };
  EXPECT_THAT(refusal_of_zip(with(end + 10, little_endian(3, 2))),
              HasSubstr("promises 3 members and ends after 2"));
  EXPECT_THAT(refusal_of_zip(with(end + 12, little_endian(0xfffffff0, 4))),
              HasSubstr("expected a directory of at most"));
  EXPECT_THAT(refusal_of_zip(with(end + 16, little_endian(0x7fffffff, 4))),
              HasSubstr("directory leaves the file"));
  EXPECT_THAT(refusal_of_zip(with(end + 4, little_endian(7, 2))), HasSubstr("several files"));
  const size_t first = whole.find("PK\x01\x02");
  EXPECT_THAT(refusal_of_zip(with(first + 42, little_endian(0x7ffffff0, 4))),
              HasSubstr("beyond the file's end"));
  EXPECT_THAT(refusal_of_zip(with(first + 42, little_endian(3, 4))),
              HasSubstr("is not where the archive's directory says"));
  EXPECT_THAT(refusal_of_zip(with(first + 20, little_endian(0x7ffffff0, 4) + little_endian(0x7ffffff0, 4))),
              HasSubstr("the file is cut short: member 'a/x'"));
  const std::string wide = zip_text({{.name = "a/x", .data = "z", .wide = true}}, true);
  std::string changed = wide;
  changed.replace(wide.find("PK\x06\x07") + 8, 8, std::string(8, '\xff'));
  EXPECT_THAT(refusal_of_zip(changed), HasSubstr("64-bit directory leaves the file"));
}

}  // namespace
}  // namespace octet
