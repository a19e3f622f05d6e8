// SPDX-License-Identifier: Apache-2.0
/// What becomes of the pieces of one tensor that is pushed: which have come, which wait, and the codes of
/// those whose scales are known.
#pragma once

#include <atomic>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <utility>

#include "octet/backend/backend.h"
#include "octet/loading/coverage.h"
#include "octet/loading/scale_groups.h"
#include "octet/loading/tile_filler.h"

namespace octet {

/// Bytes that wait, over all weights. Thread-safe.
class PendingBytes {
 public:
  PendingBytes(MemoryLedger& ledger, int64_t most) : ledger_(ledger), most_(most) {}
  /// Throws ArgumentError, naming the reason, when `bytes` more would be too many.
  void reserve(int64_t bytes, const std::string& name, std::string_view reason);
  void release(int64_t bytes) { bytes_ -= bytes; }
  [[nodiscard]] int64_t bytes() const { return bytes_; }
  [[nodiscard]] MemoryLedger& ledger() const { return ledger_; }
  [[nodiscard]] Allocator& allocator() { return heap_; }

 private:
  /// Small pieces would waste whole pages of the backend's allocator.
  class Heap final : public Allocator {
   public:
    void* allocate(int64_t bytes) override;
    void release(void* data, int64_t bytes) noexcept override;
  };
  Heap heap_;
  MemoryLedger& ledger_;
  int64_t most_;
  std::atomic<int64_t> bytes_{0};
};

/// A copy of bytes that wait. Move-only; leaves the account when it goes.
class HeldBytes {
 public:
  HeldBytes() = default;
  HeldBytes(PendingBytes& pending, int64_t bytes, const std::string& name, std::string_view reason);
  ~HeldBytes();
  HeldBytes(HeldBytes&& other) noexcept
      : pending_(std::exchange(other.pending_, nullptr)), buffer_(std::move(other.buffer_)) {}
  HeldBytes& operator=(HeldBytes&& other) noexcept {
    std::swap(pending_, other.pending_);
    std::swap(buffer_, other.buffer_);
    return *this;
  }
  [[nodiscard]] std::span<std::byte> span() const {
    return {buffer_.data(), static_cast<size_t>(buffer_.bytes())};
  }

 private:
  PendingBytes* pending_ = nullptr;
  Buffer buffer_;
};

/// The coverage of one tensor, with what came twice. Thread-safe.
class PushedTensor {
 public:
  PushedTensor(int64_t rows, int64_t cols) : coverage_(rows, cols) {}

  /// False, and noted, when some of it came before. Calls `before` in between, which may throw: then nothing
  /// changes.
  template <class Before>
  bool add(const Rectangle& place, Before&& before) {
    const std::scoped_lock lock(mutex_);
    if (coverage_.overlaps(place)) {
      if (!twice_) twice_ = place;
      return false;
    }
    before();
    coverage_.add(place);
    return true;
  }
  [[nodiscard]] std::optional<Rectangle> twice() const { return twice_; }
  [[nodiscard]] const Coverage& coverage() const { return coverage_; }
  /// A sum over the elements and their places, which is the same for any pieces in any order.
  void add_fingerprint(const Rectangle& place, int64_t cols, std::span<const std::byte> bytes, DType dtype);
  [[nodiscard]] uint64_t fingerprint() const { return fingerprint_; }

 private:
  std::mutex mutex_;
  Coverage coverage_;
  std::optional<Rectangle> twice_;
  std::atomic<uint64_t> fingerprint_{0};
};

/// Fills the slice of one bound piece. Thread-safe.
class PushedWeight {
 public:
  /// All must outlive it. `into` is the memory of the piece's destination.
  PushedWeight(Backend& backend, PendingBytes& pending, const Piece& piece, const QuantMatrixView& into);

  /// Takes a rectangle of the tensor that `tensor` has not had. Throws where it would wait and finds no room;
  /// nothing is changed then.
  void push(PushedTensor& tensor, const Rectangle& place, std::span<const std::byte> bytes);
  /// Takes a rectangle of the scales of an adopted weight.
  void push_scales(PushedTensor& tensor, const Rectangle& place, std::span<const std::byte> bytes);

  [[nodiscard]] const Piece& piece() const { return piece_; }
  [[nodiscard]] const TileResult& result() const { return result_; }
  /// The first scale that cannot be one.
  [[nodiscard]] const std::optional<std::string>& scales_fault() const { return scales_fault_; }

 private:
  struct Held {
    Rectangle place;
    HeldBytes bytes;
  };

  [[nodiscard]] bool is_vector() const;
  [[nodiscard]] Rectangle own() const;
  [[nodiscard]] ConstTensorView view_of_part(const Rectangle& part, const Rectangle& place,
                                             std::span<const std::byte> bytes) const;
  /// Codes or values of a part whose scales are known.
  void write(const Rectangle& part, ConstTensorView x);
  void write_raw(const Rectangle& part, ConstTensorView x);
  /// Maxima of a part, row by row.
  void measure(const Rectangle& part, ConstTensorView x);
  void set_scales(const Rectangle& part);
  void push_scaled(PushedTensor& tensor, const Rectangle& place, std::span<const std::byte> bytes);
  void add(const TileResult& result);

  Backend& backend_;
  PendingBytes& pending_;
  const Piece& piece_;
  QuantMatrixView into_;
  std::mutex mutex_;  // guards what follows
  std::optional<ScaleGroups> groups_;
  std::list<Held> held_;
  TileResult result_;
  std::optional<std::string> scales_fault_;
};

}  // namespace octet
