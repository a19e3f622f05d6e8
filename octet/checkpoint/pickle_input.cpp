// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "octet/base/error.h"
#include "octet/checkpoint/pickle.h"

namespace octet {
namespace {

constexpr int64_t kWindow = int64_t{1} << 16;
/// No name or number of a file of tensors comes near.
constexpr uint64_t kLongestText = uint64_t{1} << 20;
/// The names of a hundred thousand tensors take a tenth of it.
constexpr int64_t kLongestPickle = int64_t{64} << 20;

}  // namespace

PickleInput::PickleInput(const FileReader& file, int64_t begin, int64_t end)
    : file_(file), end_(std::min(end, begin + kLongestPickle)), window_begin_(begin) {}

void PickleInput::fail(std::string_view what) const {
  throw FormatError(file_.path().string() + ": byte " + std::to_string(position()) +
                    " of the pickle: " + std::string(what));
}

void PickleInput::fill() {
  window_begin_ += static_cast<int64_t>(window_.size());
  at_ = 0;
  window_.clear();
  const int64_t size = std::min(kWindow, end_ - window_begin_);
  if (size <= 0) fail("it ends too early, or is longer than " + std::to_string(kLongestPickle) + " bytes");
  window_.resize(static_cast<size_t>(size));
  file_.read_at(window_begin_, std::as_writable_bytes(std::span(window_)));
}

uint8_t PickleInput::byte() {
  if (at_ == window_.size()) fill();
  return static_cast<uint8_t>(window_[at_++]);
}

std::string PickleInput::bytes(uint64_t count) {
  if (count > kLongestText) {
    fail("expected a text of at most " + std::to_string(kLongestText) + " bytes, found one of " +
         std::to_string(count));
  }
  if (static_cast<int64_t>(count) > end_ - position())
    fail("a text of " + std::to_string(count) + " bytes is cut short");
  std::string result;
  while (result.size() < count) {
    if (at_ == window_.size()) fill();
    const size_t piece = std::min(static_cast<size_t>(count) - result.size(), window_.size() - at_);
    result.append(window_, at_, piece);
    at_ += piece;
  }
  return result;
}

uint64_t PickleInput::number(int count) {
  uint64_t result = 0;
  for (int i = 0; i < count; ++i) result |= static_cast<uint64_t>(byte()) << (8 * i);
  return result;
}

std::string PickleInput::line() {
  std::string result;
  for (uint8_t next = byte(); next != '\n'; next = byte()) {
    if (result.size() == kLongestText) fail("a line is too long");
    result += static_cast<char>(next);
  }
  return result;
}

}  // namespace octet
