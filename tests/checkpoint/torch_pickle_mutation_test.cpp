// SPDX-License-Identifier: Apache-2.0
/// A small fuzz of files of torch.save: whatever is done to a valid one, it is read or refused, and what is
/// read can be read whole.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "octet/base/error.h"
#include "octet/base/file_reader.h"
#include "octet/checkpoint/torch_pickle.h"
#include "tests/support/source_dir.h"
#include "tests/support/temp_folder.h"

namespace octet {
namespace {

class TorchPickleMutation : public ::testing::TestWithParam<const char*> {
 protected:
  [[nodiscard]] std::string whole() const {
    return read_text_file(source_dir() / "tests/golden/pickles" / GetParam());
  }

  /// Returns whether it was read.
  bool reads(const std::string& content) {
    const auto path = folder_.write("pytorch_model.bin", content);
    try {
      const TorchPickleFile file(path);
      for (const TensorInfo& tensor : file.tensors()) {
        EXPECT_LE(tensor.bytes, static_cast<int64_t>(content.size()));
        std::vector<std::byte> bytes(static_cast<size_t>(tensor.bytes));
        file.read(tensor, 0, bytes);
      }
    } catch (const FormatError&) {
      return false;
    }
    return true;
  }

  size_t below(size_t end) { return static_cast<size_t>(random_() % end); }

  /// Changes bytes where the structure is; tensors' own bytes can be anything.
  std::string mutate(std::string content) {
    for (size_t times = below(3) + 1; times-- > 0;) {
      const size_t at = below(content.size());
      switch (below(4)) {
        case 0:
          content[at] = static_cast<char>(random_() & 0xff);
          break;
        case 1:
          content[at] = static_cast<char>(content[at] ^ (1 << below(8)));
          break;
        case 2:
          content.erase(at, below(4) + 1);
          break;
        default:
          content.insert(at, content.substr(below(content.size()), below(8) + 1));
          break;
      }
      if (content.empty()) content = "x";
    }
    return content;
  }

 private:
  TempFolder folder_;
  std::mt19937_64 random_{20261121};
};

TEST_P(TorchPickleMutation, AThousandChangedFilesAreReadOrRefused) {
  const std::string content = whole();
  EXPECT_TRUE(reads(content));
  int read = 0;
  for (int i = 0; i < 1000; ++i) read += reads(mutate(content)) ? 1 : 0;
  EXPECT_GT(read, 5);
  EXPECT_LT(read, 800);
}

TEST_P(TorchPickleMutation, EveryPrefixIsRefused) {
  const std::string content = whole();
  for (size_t length = 0; length < content.size(); length += 61)
    EXPECT_FALSE(reads(content.substr(0, length))) << length;
}

INSTANTIATE_TEST_SUITE_P(Formats, TorchPickleMutation,
                         ::testing::Values("zip.bin", "zip_protocol5.bin", "old.bin"));

}  // namespace
}  // namespace octet
