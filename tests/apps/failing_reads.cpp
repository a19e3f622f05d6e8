// SPDX-License-Identifier: Apache-2.0
// Preloaded into a program under test: one of its reads of weights (files ending in .safetensors) fails, or
// is the moment at which the process dies. The environment says which:
//   OCTET_TEST_READ   the number of the read, from 1
//   OCTET_TEST_RANK   the only process of an MPI job that is meant (all, without it)
//   OCTET_TEST_HOW    "error" (EIO) or "kill" (SIGKILL)
#include <dlfcn.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <string>
#include <string_view>

namespace {

using Read = ssize_t (*)(int, void*, size_t, off_t);

bool reads_weights(int fd) {
  std::array<char, 4096> path{};
  const std::string link = "/proc/self/fd/" + std::to_string(fd);
  const ssize_t length = ::readlink(link.c_str(), path.data(), path.size());
  return length > 0 && std::string_view(path.data(), static_cast<size_t>(length)).ends_with(".safetensors");
}

bool is_meant() {
  const char* wanted = std::getenv("OCTET_TEST_RANK");
  const char* rank = std::getenv("OMPI_COMM_WORLD_RANK");
  return wanted == nullptr || (rank != nullptr && std::string_view(wanted) == rank);
}

bool strikes(int fd) {
  static std::atomic<long> count{0};
  const char* number = std::getenv("OCTET_TEST_READ");
  if (number == nullptr || !is_meant() || !reads_weights(fd)) return false;
  return ++count == std::strtol(number, nullptr, 10);
}

}  // namespace

extern "C" ssize_t pread(int fd, void* into, size_t count, off_t offset) {
  static const auto real = reinterpret_cast<Read>(::dlsym(RTLD_NEXT, "pread"));
  if (!strikes(fd)) return real(fd, into, count, offset);
  const char* how = std::getenv("OCTET_TEST_HOW");
  if (how != nullptr && std::string_view(how) == "kill") (void)::raise(SIGKILL);
  errno = EIO;
  return -1;
}
