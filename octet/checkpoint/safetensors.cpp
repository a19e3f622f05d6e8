// SPDX-License-Identifier: Apache-2.0
#include "octet/checkpoint/safetensors.h"

#include <array>

#include "octet/base/error.h"
#include "octet/checkpoint/safetensors_header.h"

namespace octet {
namespace {

constexpr int64_t kLengthBytes = 8;

/// The header's length as the file's first 8 bytes claim it, checked against the format's limit and the file.
int64_t read_header_length(const FileReader& file) {
  const std::string source = file.path().string();
  if (file.size() < kLengthBytes) {
    throw FormatError(source + ": not a safetensors file: expected at least 8 bytes, found " +
                      std::to_string(file.size()));
  }
  std::array<std::byte, kLengthBytes> raw{};
  file.read_at(0, raw);
  uint64_t length = 0;
  for (size_t i = raw.size(); i-- > 0;) length = length << 8 | static_cast<uint64_t>(raw[i]);
  if (length > static_cast<uint64_t>(kMaxSafetensorsHeader)) {
    throw FormatError(source + ": not a safetensors file: a header of " + std::to_string(length) +
                      " bytes, expected at most " + std::to_string(kMaxSafetensorsHeader));
  }
  if (length > static_cast<uint64_t>(file.size() - kLengthBytes)) {
    throw FormatError(source + ": the file is cut short: expected a header of " + std::to_string(length) +
                      " bytes, found " + std::to_string(file.size() - kLengthBytes) +
                      " (fetch the file again)");
  }
  return static_cast<int64_t>(length);
}

}  // namespace

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path) : file_(path) {
  const int64_t length = read_header_length(file_);
  std::string text(static_cast<size_t>(length), '\0');
  file_.read_at(kLengthBytes, std::as_writable_bytes(std::span(text)));
  const int64_t data_begin = kLengthBytes + length;
  SafetensorsHeader header =
      parse_safetensors_header(text, path.string(), data_begin, file_.size() - data_begin);
  tensors_ = std::move(header.tensors);
  metadata_ = std::move(header.metadata);
}

void SafetensorsFile::read(const TensorInfo& tensor, int64_t begin, std::span<std::byte> into) const {
  const auto length = static_cast<int64_t>(into.size());
  check(begin >= 0 && begin <= tensor.bytes && length <= tensor.bytes - begin, "a read leaves its tensor");
  file_.read_at(tensor.offset + begin, into);
}

std::optional<FileExtent> SafetensorsFile::extent(const TensorInfo& tensor, int64_t begin,
                                                  int64_t length) const {
  check(begin >= 0 && length >= 0 && begin <= tensor.bytes && length <= tensor.bytes - begin,
        "an extent leaves its tensor");
  return FileExtent{.file = &file_, .offset = tensor.offset + begin, .length = length};
}

void SafetensorsFile::drop_cache(const TensorInfo& tensor) const {
  file_.drop_cache(tensor.offset, tensor.bytes);
}

}  // namespace octet
