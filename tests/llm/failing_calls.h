// SPDX-License-Identifier: Apache-2.0
/// System calls and allocations of this test program, by definitions of its own: counted, and one of them
/// made to fail or to be the moment at which something happens.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

namespace octet::test {

enum class Call { kRead, kWrite, kSync, kRename, kExchange, kFolder, kCreate, kMap, kAllocate };
inline constexpr size_t kCalls = 9;

[[nodiscard]] const char* to_string(Call call);

struct Strike {
  Call call = Call::kRead;
  int64_t number = 0;          ///< the call that fails; from 1, 0 for none
  std::function<void()> then;  ///< done just before that call, which then goes on; empty: the call fails
  bool one_thread = false;     ///< count only threads that called count_this_thread()
  size_t large = 2000;         ///< allocations of fewer bytes are not counted
};

/// Counts from its construction to its end, one at a time.
class CountedCalls {
 public:
  explicit CountedCalls(const Strike& strike);
  ~CountedCalls();
  CountedCalls(const CountedCalls&) = delete;
  CountedCalls& operator=(const CountedCalls&) = delete;

  [[nodiscard]] static int64_t count(Call call);
  /// Whether the call that was to fail came.
  [[nodiscard]] static bool struck();
};

void count_this_thread();

}  // namespace octet::test
