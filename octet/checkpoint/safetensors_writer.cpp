// SPDX-License-Identifier: Apache-2.0
#include "octet/checkpoint/safetensors_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <optional>
#include <system_error>
#include <unordered_set>
#include <utility>

#include "octet/base/checked_math.h"
#include "octet/base/error.h"
#include "octet/base/faults.h"
#include "octet/base/json.h"
#include "octet/checkpoint/safetensors_header.h"

namespace octet {
namespace {

std::string reason(int error) {
  return std::generic_category().message(error);
}

int64_t declared_bytes(const TensorDeclaration& tensor) {
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

/// The 8 bytes of length and the header, which spaces fill up so that the data begins at a multiple of 8.
std::string make_header(std::span<const TensorDeclaration> tensors,
                        const SafetensorsWriter::Metadata& metadata, int64_t& data_bytes) {
  std::string text = "{";
  if (!metadata.empty()) text += "\"__metadata__\":" + nlohmann::json(metadata).dump();
  std::unordered_set<std::string_view> names;
  for (const TensorDeclaration& tensor : tensors) {
    check(tensor.name != "__metadata__" && names.insert(tensor.name).second,
          "tensor " + quote(tensor.name) + " is declared twice or has a reserved name");
    const auto end = checked_add(data_bytes, declared_bytes(tensor));
    if (!end) throw ArgumentError("the bytes of all tensors overflow");
    const Json entry = {
        {"dtype", to_string(tensor.dtype)}, {"shape", tensor.shape}, {"data_offsets", {data_bytes, *end}}};
    text += (text.size() > 1 ? "," : "") + Json(tensor.name).dump() + ":" + entry.dump();
    data_bytes = *end;
  }
  text += "}";
  text.resize(static_cast<size_t>(round_up(static_cast<int64_t>(text.size()), 8)), ' ');
  check(static_cast<int64_t>(text.size()) <= kMaxSafetensorsHeader,
        "the header of a safetensors file is too large");
  std::string length(8, '\0');
  for (size_t i = 0; i < 8; ++i) length[i] = static_cast<char>(text.size() >> (8 * i) & 0xffU);
  return length + text;
}

}  // namespace

SafetensorsWriter::SafetensorsWriter(std::filesystem::path path, std::span<const TensorDeclaration> tensors,
                                     const Metadata& metadata)
    : path_(std::move(path)) {
  std::string header;
  try {
    header = make_header(tensors, metadata, remaining_);
  } catch (const nlohmann::json::exception& error) {
    throw ArgumentError(path_.string() + ": a name in the header is not UTF-8: " + error.what());
  }
  open_temporary();
  try {
    write(std::as_bytes(std::span(header)));
  } catch (...) {
    discard();
    throw;
  }
}

SafetensorsWriter::~SafetensorsWriter() {
  discard();
}

void SafetensorsWriter::open_temporary() {
  for (int attempt = 0; attempt < 1000; ++attempt) {
    temporary_ = path_;
    temporary_ += ".tmp-" + std::to_string(::getpid()) + "-" + std::to_string(attempt);
    fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd_ >= 0 || errno != EEXIST) break;
  }
  if (fd_ < 0) throw DeviceError(path_.string() + ": cannot be written: " + reason(errno));
}

void SafetensorsWriter::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t put = ::write(fd_, bytes.data(), bytes.size());
    if (put > 0) {
      bytes = bytes.subspan(static_cast<size_t>(put));
    } else if (put == 0 || errno != EINTR) {
      const int error = put == 0 ? ENOSPC : errno;
      discard();
      throw DeviceError(path_.string() + ": writing failed: " + reason(error) + "; nothing was left behind");
    }
  }
}

void SafetensorsWriter::append(std::span<const std::byte> bytes) {
  check(fd_ >= 0, "bytes for a safetensors file that is finished or failed");
  check(static_cast<int64_t>(bytes.size()) <= remaining_,
        "more bytes for a safetensors file than were declared");
  write(bytes);
  remaining_ -= static_cast<int64_t>(bytes.size());
}

void SafetensorsWriter::finish() {
  check(fd_ >= 0, "a safetensors file is finished twice or after it failed");
  check(remaining_ == 0,
        path_.string() + ": " + std::to_string(remaining_) + " bytes of its tensors are missing");
  const bool synced = ::fsync(fd_) == 0;
  const int sync_error = errno;
  const bool closed = ::close(std::exchange(fd_, -1)) == 0;
  if (!synced || !closed) {
    const int error = synced ? errno : sync_error;
    discard();
    throw DeviceError(path_.string() + ": writing failed: " + reason(error) + "; nothing was left behind");
  }
  std::error_code error;
  std::filesystem::rename(temporary_, path_, error);
  if (error) {
    discard();
    throw DeviceError(path_.string() + ": cannot be put in place: " + error.message());
  }
  temporary_.clear();
  const auto folder = path_.has_parent_path() ? path_.parent_path() : std::filesystem::path(".");
  const int folder_fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder_fd < 0) return;
  (void)::fsync(folder_fd);  // best effort: some file systems cannot
  ::close(folder_fd);
}

void SafetensorsWriter::discard() noexcept {
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
  temporary_.clear();
}

}  // namespace octet
