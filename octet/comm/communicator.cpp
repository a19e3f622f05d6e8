// SPDX-License-Identifier: Apache-2.0
#include "octet/comm/communicator.h"

#include <algorithm>

#include "octet/base/error.h"

namespace octet {
namespace {

/// Floats that are reduced at a time.
constexpr size_t kPieceFloats = size_t{64} << 10;

}  // namespace

RankFailure RankFailure::of(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const FormatError& e) {
    return {Kind::kFormat, e.what()};
  } catch (const ConfigError& e) {
    return {Kind::kConfig, e.what()};
  } catch (const ArgumentError& e) {
    return {Kind::kArgument, e.what()};
  } catch (const Interrupted& e) {
    return {Kind::kInterrupted, e.what()};
  } catch (const std::bad_alloc&) {
    return {Kind::kDevice, "out of memory"};
  } catch (const std::exception& e) {
    return {Kind::kDevice, e.what()};
  } catch (...) {
    return {Kind::kDevice, "failed for an unknown reason"};
  }
}

void RankFailure::raise(int rank) const {
  const std::string text = "rank " + std::to_string(rank) + ": " + message;
  switch (kind) {
    case Kind::kFormat:
      throw FormatError(text);
    case Kind::kConfig:
      throw ConfigError(text);
    case Kind::kArgument:
      throw ArgumentError(text);
    case Kind::kInterrupted:
      throw Interrupted(text);
    case Kind::kDevice:
      break;
  }
  throw DeviceError(text);
}

Communicator::Communicator(int rank, int world_size) : rank_(rank), world_size_(world_size) {
  octet::check(world_size >= 1 && rank >= 0 && rank < world_size, "a rank is one of the world's");
  if (world_size > 1) pieces_.resize(static_cast<size_t>(world_size) * kPieceFloats);
}

template <class Combine>
void Communicator::all_reduce(std::span<float> values, Combine&& combine) {
  if (world_size_ == 1) return;
  while (!values.empty()) {
    const std::span<float> piece = values.first(std::min(values.size(), kPieceFloats));
    const std::span<float> all = std::span(pieces_).first(piece.size() * static_cast<size_t>(world_size_));
    gather_to_all(std::as_bytes(piece), std::as_writable_bytes(all));
    std::copy_n(all.begin(), piece.size(), piece.begin());
    for (size_t first = piece.size(); first < all.size(); first += piece.size()) {
      for (size_t i = 0; i < piece.size(); ++i) piece[i] = combine(piece[i], all[first + i]);
    }
    values = values.subspan(piece.size());
  }
}

void Communicator::all_reduce_sum(std::span<float> values) {
  all_reduce(values, [](float a, float b) { return a + b; });
}

void Communicator::all_reduce_max(std::span<float> values) {
  all_reduce(values, [](float a, float b) { return std::max(a, b); });
}

int64_t Communicator::all_reduce_min(int64_t value) {
  if (world_size_ == 1) return value;
  // The scratch is larger than one integer for each rank; it holds them in their bytes.
  const std::span<float> all = std::span(pieces_).first(static_cast<size_t>(world_size_) * 2);
  gather_to_all(std::as_bytes(std::span(&value, 1)), std::as_writable_bytes(all));
  for (size_t r = 0; r < static_cast<size_t>(world_size_); ++r) {
    int64_t other = 0;
    std::copy_n(std::as_bytes(all).begin() + static_cast<std::ptrdiff_t>(r * sizeof(other)), sizeof(other),
                std::as_writable_bytes(std::span(&other, 1)).begin());
    value = std::min(value, other);
  }
  return value;
}

void Communicator::all_gather(std::span<const std::byte> mine, std::span<std::byte> all) {
  octet::check(all.size() == mine.size() * static_cast<size_t>(world_size_) && all.size() <= kMostBytes,
               "all_gather: the bytes of all ranks have the room of all ranks");
  if (!mine.empty()) gather_to_all(mine, all);
}

void Communicator::gather(std::span<const std::byte> mine, std::span<const int64_t> bytes,
                          std::span<std::byte> all) {
  size_t total = 0;
  for (const int64_t size : bytes) total += static_cast<size_t>(size);
  const auto here = static_cast<size_t>(rank_);
  octet::check(bytes.size() == static_cast<size_t>(world_size_) && total <= kMostBytes &&
                   mine.size() == static_cast<size_t>(bytes[here]) && (rank_ != 0 || all.size() == total),
               "gather: sizes and room do not fit each other");
  if (total > 0) gather_to_first(mine, bytes, all);
}

void Communicator::broadcast(std::span<std::byte> bytes) {
  if (world_size_ == 1) return;
  while (!bytes.empty()) {
    const std::span<std::byte> piece = bytes.first(std::min(bytes.size(), kMostBytes));
    send_to_all(piece);
    bytes = bytes.subspan(piece.size());
  }
}

}  // namespace octet
