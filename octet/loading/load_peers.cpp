// SPDX-License-Identifier: Apache-2.0
#include "octet/loading/load_peers.h"

#include <algorithm>
#include <exception>
#include <new>
#include <string>
#include <vector>

#include "octet/base/error.h"

namespace octet {
namespace {

/// What an error is called while it travels: a number that a float holds exactly.
enum class ErrorKind { kNone, kOther, kFormat, kConfig, kArgument, kDevice, kInterrupted };

struct Failure {
  ErrorKind kind = ErrorKind::kNone;
  std::string message = {};
};

/// Of the exception that is being handled.
Failure current_failure() {
  try {
    throw;
  } catch (const FormatError& error) {
    return {.kind = ErrorKind::kFormat, .message = error.what()};
  } catch (const ConfigError& error) {
    return {.kind = ErrorKind::kConfig, .message = error.what()};
  } catch (const ArgumentError& error) {
    return {.kind = ErrorKind::kArgument, .message = error.what()};
  } catch (const DeviceError& error) {
    return {.kind = ErrorKind::kDevice, .message = error.what()};
  } catch (const Interrupted& error) {
    return {.kind = ErrorKind::kInterrupted, .message = error.what()};
  } catch (const std::bad_alloc&) {
    return {.kind = ErrorKind::kDevice, .message = "out of memory"};
  } catch (const std::exception& error) {
    return {.kind = ErrorKind::kOther, .message = error.what()};
  } catch (...) {
    return {.kind = ErrorKind::kOther, .message = "an unknown error"};
  }
}

[[noreturn]] void raise(ErrorKind kind, const std::string& message) {
  switch (kind) {
    case ErrorKind::kFormat:
      throw FormatError(message);
    case ErrorKind::kConfig:
      throw ConfigError(message);
    case ErrorKind::kArgument:
      throw ArgumentError(message);
    case ErrorKind::kDevice:
      throw DeviceError(message);
    case ErrorKind::kInterrupted:
      throw Interrupted(message);
    default:
      throw Error(message);
  }
}

/// What the failing rank says, on all ranks. A byte travels as a number; ranks with nothing to say give
/// zeros.
std::string shared_text(LoadPeers& peers, const std::string& mine) {
  constexpr size_t kMostBytes = 1 << 20;
  auto length = static_cast<float>(std::min(mine.size(), kMostBytes));
  peers.reduce_max(std::span(&length, 1));
  std::vector<float> letters(static_cast<size_t>(length), 0.0F);
  for (size_t i = 0; i < std::min(letters.size(), mine.size()); ++i)
    letters[i] = static_cast<float>(static_cast<unsigned char>(mine[i]));
  if (!letters.empty()) peers.reduce_max(letters);
  std::string text;
  for (const float letter : letters) text += static_cast<char>(static_cast<unsigned char>(letter));
  return text;
}

}  // namespace

void fail_together(LoadPeers* peers, const std::function<void()>& body) {
  if (peers == nullptr) return body();
  Failure failure;
  try {
    body();
  } catch (...) {
    failure = current_failure();
  }
  // The largest is that of the lowest rank that failed.
  const bool failed = failure.kind != ErrorKind::kNone;
  const int left = peers->world_size() - peers->rank();
  auto mark = static_cast<float>(failed ? left : 0);
  peers->reduce_max(std::span(&mark, 1));
  if (mark == 0.0F) return;
  const bool speaks = failed && mark == static_cast<float>(left);
  auto kind = static_cast<float>(speaks ? static_cast<int>(failure.kind) : 0);
  peers->reduce_max(std::span(&kind, 1));
  const std::string text = shared_text(*peers, speaks ? failure.message : std::string());
  const int rank = peers->world_size() - static_cast<int>(mark);
  raise(static_cast<ErrorKind>(static_cast<int>(kind)), "rank " + std::to_string(rank) + ": " + text);
}

}  // namespace octet
