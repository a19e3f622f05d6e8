// SPDX-License-Identifier: Apache-2.0
#include "octet/checkpoint/safetensors_writer.h"

#include <optional>
#include <unordered_set>
#include <utility>

#include "octet/base/checked_math.h"
#include "octet/base/error.h"
#include "octet/base/faults.h"
#include "octet/base/json.h"
#include "octet/checkpoint/safetensors_header.h"

namespace octet {
namespace {

/// The 8 bytes of length and the header, which spaces fill up so that the data begins at a multiple of 8.
std::string make_header(std::span<const TensorDeclaration> tensors,
                        const SafetensorsWriter::Metadata& metadata, std::vector<int64_t>& ends) {
  std::string text = "{";
  int64_t data_bytes = 0;
  if (!metadata.empty()) text += "\"__metadata__\":" + nlohmann::json(metadata).dump();
  std::unordered_set<std::string_view> names;
  for (const TensorDeclaration& tensor : tensors) {
    check(tensor.name != "__metadata__" && names.insert(tensor.name).second,
          "tensor " + quote(tensor.name) + " is declared twice or has a reserved name");
    const auto end = checked_add(data_bytes, tensor_bytes(tensor));
    if (!end) throw ArgumentError("the bytes of all tensors overflow");
    const Json entry = {
        {"dtype", to_string(tensor.dtype)}, {"shape", tensor.shape}, {"data_offsets", {data_bytes, *end}}};
    text += (text.size() > 1 ? "," : "") + Json(tensor.name).dump() + ":" + entry.dump();
    data_bytes = *end;
    ends.push_back(data_bytes);
  }
  text += "}";
  text.resize(static_cast<size_t>(round_up(static_cast<int64_t>(text.size()), 8)), ' ');
  check(static_cast<int64_t>(text.size()) <= kMaxSafetensorsHeader,
        "the header of a safetensors file is too large");
  std::string length(8, '\0');
  for (size_t i = 0; i < 8; ++i) length[i] = static_cast<char>(text.size() >> (8 * i) & 0xffU);
  return length + text;
}

std::string checked_header(const std::string& path, std::span<const TensorDeclaration> tensors,
                           const SafetensorsWriter::Metadata& metadata, std::vector<int64_t>& ends) {
  try {
    return make_header(tensors, metadata, ends);
  } catch (const nlohmann::json::exception& error) {
    throw ArgumentError(path + ": a name in the header is not UTF-8: " + error.what());
  }
}

}  // namespace

int64_t tensor_bytes(const TensorDeclaration& tensor) {
  std::optional<int64_t> bits = dtype_bits(tensor.dtype);
  for (const int64_t size : tensor.shape) {
    if (bits) bits = size < 0 ? std::nullopt : checked_mul(*bits, size);
  }
  if (!bits || *bits % 8 != 0) {
    throw ArgumentError("the size of tensor " + quote(tensor.name) +
                        " is negative, overflows or is not whole bytes");
  }
  return *bits / 8;
}

SafetensorsWriter::SafetensorsWriter(std::filesystem::path path, std::span<const TensorDeclaration> tensors,
                                     const Metadata& metadata) {
  const std::string header = checked_header(path.string(), tensors, metadata, ends_);
  data_begin_ = static_cast<int64_t>(header.size());
  remaining_ = ends_.empty() ? 0 : ends_.back();
  file_ = std::make_unique<FileWriter>(std::move(path));
  file_->write_at(0, std::as_bytes(std::span(header)));
}

void SafetensorsWriter::append(std::span<const std::byte> bytes) {
  check(file_->is_open(), "bytes for a safetensors file that is finished or failed");
  const auto size = static_cast<int64_t>(bytes.size());
  check(size <= remaining_, "more bytes for a safetensors file than were declared");
  try {
    file_->write_at(data_begin_ + appended_, bytes);
  } catch (...) {
    file_->discard();
    throw;
  }
  appended_ += size;
  remaining_ -= size;
}

void SafetensorsWriter::write(size_t index, int64_t begin, std::span<const std::byte> bytes) {
  check(file_->is_open(), "bytes for a safetensors file that is finished or failed");
  const auto size = static_cast<int64_t>(bytes.size());
  const int64_t first = index == 0 ? 0 : ends_.at(index - 1);
  check(begin >= 0 && size <= ends_.at(index) - first - begin && size <= remaining_,
        "bytes beyond the end of a tensor, or twice");
  file_->write_at(data_begin_ + first + begin, bytes);
  file_->start_writeback(data_begin_ + first + begin, size);
  remaining_ -= size;
}

void SafetensorsWriter::finish() {
  check(file_->is_open(), "a safetensors file is finished twice or after it failed");
  check(remaining_ == 0,
        file_->path().string() + ": " + std::to_string(remaining_) + " bytes of its tensors are missing");
  file_->commit();
}

int64_t safetensors_file_bytes(std::span<const TensorDeclaration> tensors,
                               const SafetensorsWriter::Metadata& metadata) {
  std::vector<int64_t> ends;
  const std::string header = checked_header("a safetensors file", tensors, metadata, ends);
  return static_cast<int64_t>(header.size()) + (ends.empty() ? 0 : ends.back());
}

}  // namespace octet
