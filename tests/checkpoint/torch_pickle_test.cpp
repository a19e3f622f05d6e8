// SPDX-License-Identifier: Apache-2.0
#include "octet/checkpoint/torch_pickle.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "octet/base/error.h"
#include "octet/checkpoint/checkpoint.h"
#include "octet/checkpoint/safetensors.h"
#include "tests/support/source_dir.h"

namespace octet {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

std::filesystem::path golden(const std::string& name) {
  return source_dir() / "tests/golden/pickles" / name;
}

std::vector<std::byte> bytes_of(const TensorFile& file, const TensorInfo& tensor) {
  std::vector<std::byte> bytes(static_cast<size_t>(tensor.bytes));
  file.read(tensor, 0, bytes);
  return bytes;
}

void expect_refusal_of_pickle(const std::string& name, const std::string& first, const std::string& second) {
  EXPECT_THAT([&] { TorchPickleFile file(golden(name)); },
              ThrowsMessage<FormatError>(AllOf(HasSubstr(name), HasSubstr(first), HasSubstr(second))));
}

class TorchPickleFiles : public ::testing::TestWithParam<const char*> {};

TEST_P(TorchPickleFiles, HoldTheTensorsThatTheSafetensorsFileHolds) {
  const SafetensorsFile expected(golden("expected.safetensors"));
  const TorchPickleFile actual(golden(GetParam()));
  ASSERT_EQ(actual.tensors().size(), expected.tensors().size());
  int64_t last = 0;
  for (const TensorInfo& tensor : actual.tensors()) {
    EXPECT_GE(tensor.offset, last) << "not in the order of the file: " << tensor.name;
    last = tensor.offset;
    const auto same = std::ranges::find(expected.tensors(), tensor.name, &TensorInfo::name);
    ASSERT_NE(same, expected.tensors().end()) << tensor.name;
    EXPECT_EQ(tensor.dtype, same->dtype) << tensor.name;
    EXPECT_EQ(tensor.shape, same->shape) << tensor.name;
    EXPECT_EQ(tensor.bytes, same->bytes) << tensor.name;
    EXPECT_EQ(bytes_of(actual, tensor), bytes_of(expected, *same)) << tensor.name;
    actual.drop_cache(tensor);
  }
}

TEST_P(TorchPickleFiles, AreReadInPiecesOfAnySize) {
  const TorchPickleFile file(golden(GetParam()));
  for (const TensorInfo& tensor : file.tensors()) {
    const std::vector<std::byte> whole = bytes_of(file, tensor);
    for (const int64_t piece : {1, 3, 17}) {
      for (int64_t begin = 0; begin < tensor.bytes; begin += piece) {
        std::vector<std::byte> part(static_cast<size_t>(std::min(piece, tensor.bytes - begin)));
        file.read(tensor, begin, part);
        EXPECT_TRUE(std::equal(part.begin(), part.end(), whole.begin() + begin)) << tensor.name << begin;
      }
    }
    std::vector<std::byte> beyond(static_cast<size_t>(tensor.bytes) + 1);
    EXPECT_THROW(file.read(tensor, 0, beyond), ArgumentError);
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, TorchPickleFiles,
                         ::testing::Values("zip.bin", "zip_protocol5.bin", "old.bin"));

TEST(TorchPickle, ReadsADtypeWithoutAStorageOfItsOwn) {
  const TorchPickleFile file(golden("fp8.bin"));
  ASSERT_EQ(file.tensors().size(), 1U);
  EXPECT_EQ(file.tensors().front().dtype, DType::kF8E4M3);
  EXPECT_EQ(file.tensors().front().bytes, 8);
  EXPECT_EQ(bytes_of(file, file.tensors().front())[2], std::byte{0x40});  // 2.0
}

TEST(TorchPickle, RefusesElementsInAnotherOrder) {
  expect_refusal_of_pickle("transposed.bin", "tensor 'turned' (sizes [3, 2], strides [1, 3], offset 0)",
                           "save the tensor after .contiguous()");
  expect_refusal_of_pickle("expanded.bin", "tensor 'spread'", "save the tensor after .contiguous()");
}

TEST(TorchPickle, RefusesWhatIsNoDictionaryOfTensors) {
  expect_refusal_of_pickle("training.bin", "'model': expected a tensor, found a dictionary",
                           "'epoch': expected a tensor, found an integer");
  expect_refusal_of_pickle("module.bin", "it names 'torch.nn.modules.linear.Linear'", "Nothing was run");
}

TEST(TorchPickle, IsOneFormatOfAFolderAmongOthers) {
  const Checkpoint checkpoint(golden("opt_bin"));
  EXPECT_EQ(checkpoint.files().size(), 2U);
  const TensorInfo* table = checkpoint.find("decoder.embed_tokens.weight");
  ASSERT_NE(table, nullptr);
  EXPECT_EQ(table->dtype, DType::kF16);
  EXPECT_EQ(table->shape, (std::vector<int64_t>{67, 36}));
}

}  // namespace
}  // namespace octet
