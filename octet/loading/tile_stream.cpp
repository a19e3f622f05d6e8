// SPDX-License-Identifier: Apache-2.0
#include "octet/loading/tile_stream.h"

#include <algorithm>
#include <exception>
#include <limits>
#include <utility>

#include "octet/base/direct_reader.h"
#include "octet/base/error.h"
#include "octet/base/page_fetcher.h"

namespace octet {
namespace {

constexpr int kReaders = 2;  // while one waits for a processor to run on, the other keeps the disk busy

}  // namespace

TileStream::TileStream(Parts parts)
    : parts_(std::move(parts)), states_(parts_.tiles), slot_of_(parts_.tiles) {
  const size_t slots = parts_.memory.size() / static_cast<size_t>(parts_.slot_bytes);
  check(slots > 0 && slots <= std::numeric_limits<uint8_t>::max(), "a stream of tiles needs a slot, and few");
  for (size_t i = 0; i < slots; ++i) {
    const auto bytes = static_cast<size_t>(parts_.slot_bytes);
    slots_.push_back({.memory = parts_.memory.subspan(i * bytes, bytes)});
    free_slots_.push_back(static_cast<uint8_t>(i));
  }
  threads_.reserve(kReaders);
  try {
    for (int i = 0; i < kReaders; ++i) threads_.emplace_back([this] { run(); });
  } catch (const std::exception&) {  // neither a thread nor the memory for one: those that run go on
    if (threads_.empty()) ended_ = true;
  }
}

TileStream::~TileStream() {
  {
    const std::lock_guard lock(mutex_);
    ended_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

std::span<const std::byte> TileStream::take(size_t tile) {
  std::unique_lock lock(mutex_);
  if (tile > reached_) {
    reached_ = tile;
    changed_.notify_all();
  }
  changed_.wait(lock, [&] { return ended_ || states_[tile] != State::kAwaited; });
  if (states_[tile] != State::kInSlot) return {};
  Slot& slot = slots_[slot_of_[tile]];
  slot.taken = Clock::now();
  return slot.bytes;
}

void TileStream::give_back(size_t tile) {
  {
    const std::lock_guard lock(mutex_);
    if (states_[tile] != State::kInSlot) return;
    const Slot& slot = slots_[slot_of_[tile]];
    work_.seconds += seconds_since(slot.taken);
    work_.bytes += static_cast<int64_t>(slot.bytes.size());
    states_[tile] = State::kElsewhere;
    free_slots_.push_back(slot_of_[tile]);
  }
  changed_.notify_all();
}

// A slot is claimed with each tile, so that the first one that is awaited has one for sure.
std::optional<TileStream::Claim> TileStream::next_claim() {
  std::unique_lock lock(mutex_);
  const auto window = static_cast<size_t>(parts_.window / parts_.slot_bytes) + slots_.size();
  changed_.wait(lock, [&] {
    return ended_ || claimed_ == parts_.tiles || (!free_slots_.empty() && claimed_ < reached_ + window);
  });
  if (ended_ || claimed_ == parts_.tiles) return std::nullopt;
  const Claim claim = {.tile = claimed_++, .slot = free_slots_.back()};
  free_slots_.pop_back();
  return claim;
}

bool TileStream::wants_direct() {
  const std::lock_guard lock(mutex_);
  if (through_cache_ || parts_.keep_out || std::min(disk_.bytes, work_.bytes) < parts_.judged)
    return !through_cache_;
  const double disk = static_cast<double>(disk_.bytes) / disk_.seconds * kReaders;
  const double work = static_cast<double>(work_.bytes) / work_.seconds * parts_.workers;
  through_cache_ = work > kWorthCaching * disk;
  return !through_cache_;
}

void TileStream::publish(const Claim& claim, const std::optional<std::span<const std::byte>>& bytes,
                         double seconds) {
  {
    const std::lock_guard lock(mutex_);
    if (bytes) {
      disk_.bytes += static_cast<int64_t>(bytes->size());
      disk_.seconds += seconds;
      slots_[claim.slot].bytes = *bytes;
      slot_of_[claim.tile] = static_cast<uint8_t>(claim.slot);
      states_[claim.tile] = State::kInSlot;
    } else {
      free_slots_.push_back(static_cast<uint8_t>(claim.slot));
      states_[claim.tile] = State::kElsewhere;
    }
  }
  changed_.notify_all();
}

// What cannot be told, for want of memory, say, is nothing to fetch: the worker that reads it will say why.
TileStream::Part TileStream::part_of(size_t tile) const noexcept {
  try {
    return parts_.part_of(tile);
  } catch (...) {
    return {};
  }
}

void TileStream::run() {
  DirectReader reader;
  PageFetcher fetcher;
  while (const std::optional<Claim> claim = next_claim()) {
    const Part part = part_of(claim->tile);
    std::optional<std::span<const std::byte>> bytes;
    const Clock::time_point begin = Clock::now();
    if (part.extent.file != nullptr && 2 * cached_bytes(part.extent) < part.extent.length) {
      if (part.direct && wants_direct()) bytes = reader.read(part.extent, slots_[claim->slot].memory);
      if (!bytes && parts_.window > 0) fetcher.fetch(part.extent);
    }
    publish(*claim, bytes, seconds_since(begin));
  }
}

}  // namespace octet
