// SPDX-License-Identifier: Apache-2.0
#include "tests/llm/failing_calls.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <utility>

namespace {

using octet::test::Call;
using octet::test::kCalls;

std::array<std::atomic<int64_t>, kCalls> calls;
std::atomic<size_t> failing_call{0};
std::atomic<int64_t> failing_number{0};
std::atomic<bool> counting{false};
std::atomic<bool> has_struck{false};
std::atomic<bool> one_thread{false};
std::atomic<size_t> large{0};
std::function<void()> then;  // NOLINT: set before counting begins
thread_local bool this_thread = false;

/// Whether this call is the one that fails.
bool strikes(Call call) {
  if (!counting || (one_thread && !this_thread)) return false;
  const auto index = static_cast<size_t>(call);
  const bool strikes = ++calls.at(index) == failing_number && index == failing_call;
  if (!strikes) return false;
  has_struck = true;
  if (!then) return true;
  const bool before = std::exchange(this_thread, false);
  counting = false;
  then();
  counting = true;
  this_thread = before;
  return false;
}

}  // namespace

extern "C" {
ssize_t pread(int fd, void* into, size_t count, off_t offset) {
  if (!strikes(Call::kRead)) return ::syscall(SYS_pread64, fd, into, count, offset);
  errno = EIO;
  return -1;
}
ssize_t pwrite(int fd, const void* from, size_t count, off_t offset) {
  if (!strikes(Call::kWrite)) return ::syscall(SYS_pwrite64, fd, from, count, offset);
  errno = ENOSPC;
  return -1;
}
int fsync(int fd) {
  if (!strikes(Call::kSync)) return static_cast<int>(::syscall(SYS_fsync, fd));
  errno = EIO;
  return -1;
}
int rename(const char* from, const char* to) noexcept {
  if (!strikes(Call::kRename)) return static_cast<int>(::syscall(SYS_rename, from, to));
  errno = EACCES;
  return -1;
}
int renameat2(int from_folder, const char* from, int to_folder, const char* to, unsigned flags) noexcept {
  if (!strikes(Call::kExchange))
    return static_cast<int>(::syscall(SYS_renameat2, from_folder, from, to_folder, to, flags));
  errno = EACCES;
  return -1;
}
int mkdir(const char* path, mode_t mode) noexcept {
  if (!strikes(Call::kFolder)) return static_cast<int>(::syscall(SYS_mkdir, path, mode));
  errno = EROFS;
  return -1;
}
void* mmap(void* at, size_t bytes, int protection, int flags, int fd, off_t offset) noexcept {
  if (strikes(Call::kMap)) {
    errno = ENOMEM;
    return MAP_FAILED;
  }
  // The raw call gives an address as a number.
  return reinterpret_cast<void*>(::syscall(SYS_mmap, at, bytes, protection, flags, fd, offset));  // NOLINT
}
int open(const char* path, int flags, ...) {
  std::va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = (flags & O_CREAT) != 0 ? va_arg(arguments, mode_t) : 0;
  va_end(arguments);
  if ((flags & O_CREAT) == 0 || !strikes(Call::kCreate))
    return static_cast<int>(::syscall(SYS_openat, AT_FDCWD, path, flags, mode));
  errno = EMFILE;
  return -1;
}
}  // extern "C"

// Not inlined, or the compiler sees memory of operator new given to free.
[[gnu::noinline]] void* operator new(size_t bytes) {
  void* memory = operator new(bytes, std::nothrow);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
// Every form that std::free is to give back, or a sanitizer sees memory of two allocators.
[[gnu::noinline]] void* operator new(size_t bytes, const std::nothrow_t& /*tag*/) noexcept {
  return bytes >= large && strikes(Call::kAllocate) ? nullptr : std::malloc(bytes == 0 ? 1 : bytes);
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, size_t /*bytes*/) noexcept {
  std::free(memory);
}

namespace octet::test {

const char* to_string(Call call) {
  constexpr std::array<const char*, kCalls> kNames = {"read",  "write", "fsync", "rename",      "renameat2",
                                                      "mkdir", "open",  "mmap",  "operator new"};
  return kNames.at(static_cast<size_t>(call));
}

CountedCalls::CountedCalls(const Strike& strike) {
  for (auto& count : calls) count = 0;
  failing_call = static_cast<size_t>(strike.call);
  failing_number = strike.number;
  has_struck = false;
  one_thread = strike.one_thread;
  large = strike.large;
  then = strike.then;
  counting = true;
}

CountedCalls::~CountedCalls() {
  counting = false;
}

int64_t CountedCalls::count(Call call) {
  return calls.at(static_cast<size_t>(call));
}

bool CountedCalls::struck() {
  return has_struck;
}

void count_this_thread() {
  this_thread = true;
}

}  // namespace octet::test
