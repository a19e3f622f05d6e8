// SPDX-License-Identifier: Apache-2.0
// Every system call of an export fails once, and every so many-th allocation: one error, nothing left behind,
// and what was there before is there still. The calls are those of this program, by definitions of its own.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstdlib>
#include <functional>
#include <map>
#include <new>

#include "octet/base/file_reader.h"
#include "octet/llm/quantize.h"
#include "tests/support/temp_folder.h"

namespace {

enum Call { kRead, kWrite, kSync, kRename, kExchange, kFolder, kCreate, kMap, kAllocate, kCalls };
constexpr std::array<const char*, kCalls> kNames = {"read",      "write", "fsync", "rename",
                                                    "renameat2", "mkdir", "open",  "operator new"};

constexpr size_t kLarge = 2000;

std::array<std::atomic<int64_t>, kCalls> calls;
std::atomic<int> failing_call{-1};
std::atomic<int64_t> failing_number{0};
std::atomic<bool> counting{false};

/// Whether this call is the one that fails.
bool strikes(Call call) {
  if (!counting) return false;
  return ++calls[call] == failing_number && call == failing_call;
}

}  // namespace

extern "C" {
ssize_t pread(int fd, void* into, size_t count, off_t offset) {
  if (!strikes(kRead)) return ::syscall(SYS_pread64, fd, into, count, offset);
  errno = EIO;
  return -1;
}
ssize_t pwrite(int fd, const void* from, size_t count, off_t offset) {
  if (!strikes(kWrite)) return ::syscall(SYS_pwrite64, fd, from, count, offset);
  errno = ENOSPC;
  return -1;
}
int fsync(int fd) {
  if (!strikes(kSync)) return static_cast<int>(::syscall(SYS_fsync, fd));
  errno = EIO;
  return -1;
}
int rename(const char* from, const char* to) noexcept {
  if (!strikes(kRename)) return static_cast<int>(::syscall(SYS_rename, from, to));
  errno = EACCES;
  return -1;
}
int renameat2(int from_folder, const char* from, int to_folder, const char* to, unsigned flags) noexcept {
  if (!strikes(kExchange))
    return static_cast<int>(::syscall(SYS_renameat2, from_folder, from, to_folder, to, flags));
  errno = EACCES;
  return -1;
}
int mkdir(const char* path, mode_t mode) noexcept {
  if (!strikes(kFolder)) return static_cast<int>(::syscall(SYS_mkdir, path, mode));
  errno = EROFS;
  return -1;
}
void* mmap(void* at, size_t bytes, int protection, int flags, int fd, off_t offset) noexcept {
  if (strikes(kMap)) {
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
  if ((flags & O_CREAT) == 0 || !strikes(kCreate))
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
  return bytes >= kLarge && strikes(kAllocate) ? nullptr : std::malloc(bytes == 0 ? 1 : bytes);
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, size_t /*bytes*/) noexcept {
  std::free(memory);
}

namespace octet {
namespace {

const std::filesystem::path kModel =
    std::filesystem::path(OCTET_SOURCE_DIR) / "tests/golden/models/llama_tied";

using Files = std::map<std::string, std::string>;

Files files_in(const std::filesystem::path& folder) {
  Files files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    const std::string name = std::filesystem::relative(entry.path(), folder).string();
    files[name] = entry.is_regular_file() ? read_text_file(entry.path()) : "a folder";
  }
  return files;
}

class QuantizeFaults : public ::testing::Test {
 protected:
  void SetUp() override { std::filesystem::create_directory(place_); }

  /// Counts calls, and has number `number` of `call` fail. Returns what was thrown, "" for nothing.
  std::string run(int call, int64_t number) {
    QuantizeOptions options;
    options.model.device.threads = 2;
    options.format = ExportFormat::kRaw;
    options.max_shard_bytes = 30'000;
    options.overwrite = true;
    for (auto& count : calls) count = 0;
    failing_call = call;
    failing_number = number;
    counting = true;
    std::string thrown;
    try {
      (void)quantize_checkpoint(kModel, place_ / "out", options);
    } catch (const std::exception& error) {
      counting = false;
      thrown = error.what();
    }
    counting = false;
    return thrown;
  }

  /// Fails each `call` in turn and expects either nothing or everything.
  void sweep(Call call, const Files& before, const Files& after) {
    SCOPED_TRACE(kNames[call]);
    reset(before);
    ASSERT_EQ(run(-1, 0), "");
    ASSERT_EQ(files_in(place_), after);
    const int64_t count = calls[call];
    ASSERT_GT(count, 0);
    int64_t errors = 0;
    for (int64_t number = 1; number <= count; ++number) {
      SCOPED_TRACE(number);
      reset(before);
      const std::string error = run(call, number);
      errors += error.empty() ? 0 : 1;
      EXPECT_EQ(files_in(place_), error.empty() ? after : before) << error;
    }
    EXPECT_GT(errors, 0);
  }

  void reset(const Files& files) const {
    std::filesystem::remove_all(place_);
    std::filesystem::create_directory(place_);
    for (const auto& [name, text] : files) {
      if (text == "a folder") continue;
      folder_.write(std::filesystem::path("place") / name, text);
    }
  }

  TempFolder folder_;
  std::filesystem::path place_ = folder_.path() / "place";
};

TEST_F(QuantizeFaults, LeaveNothingBehindWhicheverCallFails) {
  ASSERT_EQ(run(-1, 0), "");
  const Files after = files_in(place_);
  EXPECT_TRUE(after.contains("out/model.safetensors.index.json"));
  for (const Call call : {kRead, kWrite, kSync, kRename, kFolder, kCreate}) sweep(call, {}, after);
}

TEST_F(QuantizeFaults, LeaveTheOldModelWhicheverCallFails) {
  const Files before = {{"out", "a folder"}, {"out/config.json", "{}"}, {"out/old.txt", "old"}};
  ASSERT_EQ(run(-1, 0), "");
  const Files after = files_in(place_);
  for (const Call call : {kWrite, kRename, kExchange, kCreate}) sweep(call, before, after);
}

TEST_F(QuantizeFaults, LeaveNothingBehindWhenMemoryEnds) {
  ASSERT_EQ(run(-1, 0), "");
  const Files after = files_in(place_);
  sweep(kMap, {}, after);
  sweep(kAllocate, {}, after);
}

TEST_F(QuantizeFaults, AreToldWithTheFileAndTheReason) {
  EXPECT_THAT(run(kWrite, 3), ::testing::AllOf(::testing::HasSubstr(".safetensors: writing failed"),
                                               ::testing::HasSubstr("No space left on device")));
  EXPECT_THAT(run(kRead, 12), ::testing::HasSubstr("Input/output error"));
}

}  // namespace
}  // namespace octet
