// SPDX-License-Identifier: Apache-2.0
/// The tiles of a load as one stream from the disk, past the page cache where the disk is fast.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <span>
#include <thread>
#include <vector>

#include "octet/base/clock.h"
#include "octet/base/file_reader.h"

namespace octet {

/// Reads tiles in their order on threads of its own, ahead of the workers: into slots, past the page cache,
/// which saves the copy, the pages and what others have in them; or into the page cache, for the workers to
/// read. A part that is mostly in the page cache is left there. The rest of a load goes through the page
/// cache once that is seen to be worth it for the next one: when workers are more than kWorthCaching times as
/// fast as the disk.
class TileStream {
 public:
  /// What a tile reads.
  struct Part {
    FileExtent extent;    ///< no file: nothing is fetched for it
    bool direct = false;  ///< its bytes are those of the extent, read once, and fit a slot
  };
  struct Parts {
    size_t tiles = 0;
    std::function<Part(size_t)> part_of;  ///< of a tile; called from any thread
    std::span<std::byte> memory;          ///< of all slots; outlives the stream
    int64_t slot_bytes = 0;               ///< multiples of DirectReader::kAlignment
    int workers = 1;                      ///< that take tiles at a time
    int64_t window = 0;                   ///< bytes that the page cache may hold ahead of the workers
    bool keep_out = false;                ///< of the page cache, however slow the disk is
    int64_t judged = int64_t{256} << 20;  ///< bytes after which disk and workers are compared
  };
  static constexpr double kWorthCaching = 3;

  /// Reads nothing where no thread can be had; then workers read for themselves.
  explicit TileStream(Parts parts);
  /// Waits for what is being read, and for no more.
  ~TileStream();
  TileStream(const TileStream&) = delete;
  TileStream& operator=(const TileStream&) = delete;

  /// Its bytes, until `give_back`; empty when the worker has to read them, now from the page cache. Tiles are
  /// taken by workers in order, each once. From any thread.
  [[nodiscard]] std::span<const std::byte> take(size_t tile);
  void give_back(size_t tile);

 private:
  struct Claim {
    size_t tile = 0;
    size_t slot = 0;
  };
  /// Of the bytes that passed one place, the time they took.
  struct Pace {
    int64_t bytes = 0;
    double seconds = 0;
  };
  enum class State : uint8_t { kAwaited, kInSlot, kElsewhere };
  struct Slot {
    std::span<std::byte> memory = {};
    std::span<const std::byte> bytes = {};
    Clock::time_point taken = {};
  };

  void run();
  [[nodiscard]] Part part_of(size_t tile) const noexcept;
  std::optional<Claim> next_claim();
  void publish(const Claim& claim, const std::optional<std::span<const std::byte>>& bytes, double seconds);
  [[nodiscard]] bool wants_direct();

  Parts parts_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<State> states_;     // of tiles
  std::vector<uint8_t> slot_of_;  // of tiles in a slot
  std::vector<Slot> slots_;
  std::vector<uint8_t> free_slots_;
  size_t claimed_ = 0;
  size_t reached_ = 0;  // by the furthest worker
  Pace disk_;
  Pace work_;
  bool through_cache_ = false;
  bool ended_ = false;
  std::vector<std::thread> threads_;
};

/// A tile taken for as long as this lives.
class TileLoan {
 public:
  TileLoan(TileStream& stream, size_t tile) : stream_(stream), tile_(tile), bytes_(stream.take(tile)) {}
  ~TileLoan() { stream_.give_back(tile_); }
  TileLoan(const TileLoan&) = delete;
  TileLoan& operator=(const TileLoan&) = delete;
  [[nodiscard]] std::span<const std::byte> bytes() const { return bytes_; }

 private:
  TileStream& stream_;
  size_t tile_;
  std::span<const std::byte> bytes_;
};

}  // namespace octet
