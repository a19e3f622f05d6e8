// SPDX-License-Identifier: Apache-2.0
/// One load into which a caller hands tensors in pieces: the order, sizes and threads of the pieces change
/// nothing of what is stored.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <shared_mutex>
#include <string_view>
#include <unordered_map>

#include "octet/base/faults.h"
#include "octet/loading/destination_storage.h"
#include "octet/loading/load_report.h"
#include "octet/loading/pushed_weight.h"
#include "octet/loading/tensor_piece.h"

namespace octet {

/// `push` may be called from several threads at once, `finish` when they are through.
class PushSession {
 public:
  /// `parameters`, `options` and `backend` must outlive the session.
  PushSession(Backend& backend, std::span<const Parameter> parameters, const LoadOptions& options,
              std::span<const SourceTensor> announced);
  ~PushSession();
  PushSession(const PushSession&) = delete;
  PushSession& operator=(const PushSession&) = delete;

  /// Throws ArgumentError for a piece that contradicts itself or what came before, or that would have to wait
  /// and finds no room; FormatError for a tensor that cannot fill its parameter; DeviceError without memory.
  /// Whatever it throws, the piece is as if it had never come.
  void push(const TensorPiece& piece);
  /// Throws FormatError with everything that is missing, came twice or cannot be stored, and then holds
  /// nothing any more. `last` sees the report, but for its final size, before anything is kept; what it
  /// throws is thrown, and nothing is held.
  LoadReport finish(const std::function<void(const LoadReport&)>& last);
  /// Whether a destination has been taken.
  [[nodiscard]] bool began_writing() const { return began_writing_; }
  /// Gives back what was taken.
  void abandon() noexcept;

 private:
  enum class Use { kWeight, kScales };
  /// A destination with all that fills it.
  struct Group;
  /// One name under which something may come.
  struct Entry {
    std::string name;
    Group* group = nullptr;
    size_t member = 0;
    Use use = Use::kWeight;
    std::optional<SourceTensor> tensor = std::nullopt;  ///< once announced or seen
    bool pieces_came = false;
    std::unique_ptr<PushedTensor> pushed = nullptr;  ///< from its first piece on
  };
  /// One tensor that a destination needs, under all its names.
  struct Member {
    const Parameter* parameter = nullptr;
    Entry* weight = nullptr;                          ///< the name that came first, or was announced
    bool weight_announced = false;                    ///< so that the order of two copies decides nothing
    Entry* copy = nullptr;                            ///< the other name, if it came too
    Entry* scales = nullptr;                          ///< if any came or were announced
    std::unique_ptr<PushedWeight> filling = nullptr;  ///< once bound
  };
  /// A piece that came before it was known what its matrix will be.
  struct Waiting {
    Entry* entry = nullptr;
    Rectangle place;
    HeldBytes bytes;
  };

  void add_parameter(const Parameter& parameter, std::unordered_map<const void*, Group*>& by_target);
  void add_entry(const std::string& name, Group& group, size_t member, Use use);
  void announce(const SourceTensor& tensor);
  /// Notes a name that no parameter asks for.
  void note_stranger(const TensorPiece& piece);
  [[nodiscard]] Entry* find(std::string_view name);
  /// Binds the entry's group when enough is known of it, or when `force` says that nothing more will be.
  /// Returns the pieces that waited for it.
  [[nodiscard]] std::vector<Waiting> meet(Entry& entry, const TensorPiece& piece, const Rectangle& place,
                                          bool& held);
  void see(Entry& entry, const TensorPiece& piece);
  [[nodiscard]] bool can_bind(const Group& group) const;
  void bind(Group& group);
  [[nodiscard]] std::vector<SourceTensor> tensors_of(const Group& group) const;
  void fill(Entry& entry, const Rectangle& place, std::span<const std::byte> bytes);
  void bind_the_rest();
  void collect_faults(const Group& group, Faults& faults) const;
  void collect_faults(const Entry& entry, Faults& faults) const;
  void collect_copy_faults(const Member& member, Faults& faults) const;
  void check_input_scales(Faults& faults) const;
  [[nodiscard]] std::vector<InputScale> found_input_scales() const;
  /// Lets the destinations keep what they were filled with.
  void commit(std::span<const InputScale> scales) noexcept;
  /// Tells the matrices whose every element was quantized here, from finite values, that they are finite.
  void mark_finite_codes() noexcept;
  [[nodiscard]] LoadReport report() const;

  Backend& backend_;
  const LoadOptions& options_;
  PendingBytes pending_;
  std::unique_ptr<DestinationStorage> storage_;
  LoadMeter meter_;
  int64_t held_before_ = 0;
  int64_t rss_before_ = 0;
  std::shared_mutex phase_;  // pushes share it; the end has it alone
  bool finished_ = false;
  std::atomic<bool> began_writing_{false};
  std::mutex mutex_;  // guards what follows, but for the filling of bound weights
  std::deque<Entry> entries_;
  std::unordered_map<std::string_view, Entry*> by_name_;
  std::deque<Group> groups_;
  std::set<std::string> strangers_;
  std::vector<WeightRecord> stranger_records_;
};

}  // namespace octet
