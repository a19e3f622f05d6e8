// SPDX-License-Identifier: Apache-2.0
/// A source that shows another one and lets a test see each read before it happens, or have it fail.
#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "octet/loading/weight_source.h"

namespace octet {

class WatchedSource final : public WeightSource {
 public:
  /// Called before rows from `begin` on are read, from any thread. What it throws, the read throws.
  using Watch = std::function<void(const SourceTensor& tensor, int64_t begin)>;

  explicit WatchedSource(const WeightSource& inner, Watch watch = {})
      : inner_(inner), watch_(std::move(watch)) {}

  [[nodiscard]] std::string describe() const override { return inner_.describe(); }
  [[nodiscard]] const std::vector<SourceTensor>& tensors() const override { return inner_.tensors(); }
  void read_rows(const SourceTensor& tensor, int64_t begin, int64_t end,
                 std::span<std::byte> into) const override {
    if (watch_) watch_(tensor, begin);
    inner_.read_rows(tensor, begin, end, into);
  }
  int64_t read_block(const SourceTensor& tensor, IndexRange rows, IndexRange cols,
                     std::span<std::byte> into) const override {
    if (watch_) watch_(tensor, rows.begin);
    return inner_.read_block(tensor, rows, cols, into);
  }
  void drop_cache(const SourceTensor& tensor) const override { dropped.push_back(tensor.name); }

  mutable std::vector<std::string> dropped;  ///< tensors that nobody will read again

 private:
  const WeightSource& inner_;
  Watch watch_;
};

/// Throws at one of many calls: as a Watch, the Nth read fails. May be called from several threads.
class FailAt {
 public:
  explicit FailAt(int number) : left_(number) {}
  void operator()() {
    if (--left_ == 0) throw FormatError("a.safetensors: reading failed");
  }
  [[nodiscard]] bool failed() const { return left_ <= 0; }

 private:
  std::atomic<int> left_;
};

}  // namespace octet
