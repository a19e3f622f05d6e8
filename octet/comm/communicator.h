// SPDX-License-Identifier: Apache-2.0
/// What ties the processes ("ranks") over which one model is cut. Rank 0 speaks; all ranks make the same
/// collective calls in the same order. Knows bytes and floats, not what they mean.
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <span>
#include <string>
#include <vector>

namespace octet {

/// What a rank could not do, fit to travel to rank 0.
struct RankFailure {
  enum class Kind : int32_t { kFormat, kConfig, kArgument, kDevice, kInterrupted };
  Kind kind = Kind::kDevice;
  std::string message;

  /// Of any exception; those which are not Octet's own become kDevice.
  [[nodiscard]] static RankFailure of(const std::exception_ptr& error);
  /// Throws the typed error, with "rank R: " before its message.
  [[noreturn]] void raise(int rank) const;
};

/// Not thread-safe: collective calls come from one thread of each rank, the one that made the communicator.
/// They return when this rank has what it waited for, and take no memory. Where a rank has failed, rank 0
/// throws its error from the call in which it waits (`check` does the same between calls); what is to be done
/// then is to end all ranks.
class Communicator {
 public:
  Communicator(int rank, int world_size);
  virtual ~Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  [[nodiscard]] int rank() const { return rank_; }
  [[nodiscard]] int world_size() const { return world_size_; }
  /// How many of the ranks run on this machine, this one included.
  [[nodiscard]] virtual int local_ranks() const { return world_size_; }

  /// values[i] = the sum over the ranks, added in the order of the ranks whatever the transport does, so that
  /// it is the same on every rank and in every run.
  void all_reduce_sum(std::span<float> values);
  /// values[i] = the largest over the ranks. Exact.
  void all_reduce_max(std::span<float> values);
  /// The smallest over the ranks.
  [[nodiscard]] int64_t all_reduce_min(int64_t value);
  /// all = [the bytes of rank 0, those of rank 1, ...]; every rank gives as many.
  void all_gather(std::span<const std::byte> mine, std::span<std::byte> all);
  /// On rank 0: all = what the ranks gave, one after another, `bytes[r]` from rank r; elsewhere `all` is not
  /// looked at. Every rank knows all sizes.
  void gather(std::span<const std::byte> mine, std::span<const int64_t> bytes, std::span<std::byte> all);
  /// The bytes of rank 0 to all.
  void broadcast(std::span<std::byte> bytes);
  template <class T, size_t Extent>
  void broadcast_values(std::span<T, Extent> values) {
    broadcast(std::as_writable_bytes(values));
  }
  /// Returns when all ranks have come here.
  virtual void barrier() = 0;

  /// Throws what another rank has reported (on rank 0), or Interrupted where this rank was asked to stop
  /// (elsewhere). For long computations between collective calls.
  virtual void check() {}
  /// On a rank other than 0: hands the failure to rank 0. False when rank 0 has not ended all ranks after
  /// some seconds; then the caller speaks and ends them itself.
  virtual bool report_failure(const RankFailure& /*failure*/) { return false; }
  /// Ends the processes of all ranks, this one last, with this exit code where the launcher passes it on.
  /// Returns where there is nobody else to end.
  virtual void end_all_ranks(int /*exit_code*/) {}

 protected:
  /// At most kMostBytes at a time.
  static constexpr size_t kMostBytes = size_t{1} << 30;
  virtual void gather_to_all(std::span<const std::byte> mine, std::span<std::byte> all) = 0;
  virtual void gather_to_first(std::span<const std::byte> mine, std::span<const int64_t> bytes,
                               std::span<std::byte> all) = 0;
  virtual void send_to_all(std::span<std::byte> bytes) = 0;

 private:
  template <class Combine>
  void all_reduce(std::span<float> values, Combine&& combine);

  int rank_;
  int world_size_;
  std::vector<float> pieces_;  // of all ranks
};

}  // namespace octet
