// SPDX-License-Identifier: Apache-2.0
#include "octet/text/reply.h"

#include <cstring>

#include "octet/base/error.h"

namespace octet::text {
namespace {

/// Gives the reply back to the library when the scope ends, also when copying it throws.
class ReplyGuard {
 public:
  ReplyGuard() = default;
  ReplyGuard(const ReplyGuard&) = delete;
  ReplyGuard& operator=(const ReplyGuard&) = delete;
  ~ReplyGuard() { octet_text_free(reply); }

  OctetTextReply reply{nullptr, 0};
};

}  // namespace

std::string call(const std::function<int32_t(OctetTextReply*)>& function) {
  ReplyGuard guard;
  const int32_t status = function(&guard.reply);
  std::string bytes(guard.reply.data, guard.reply.size);
  switch (status) {
    case OCTET_TEXT_OK:
      return bytes;
    case OCTET_TEXT_FORMAT:
      throw FormatError(bytes);
    case OCTET_TEXT_CONFIG:
      throw ConfigError(bytes);
    case OCTET_TEXT_ARGUMENT:
      throw ArgumentError(bytes);
    default:
      throw Error(bytes);
  }
}

std::vector<int32_t> ids_from(const std::string& bytes) {
  std::vector<int32_t> ids(bytes.size() / sizeof(int32_t));
  if (!ids.empty()) std::memcpy(ids.data(), bytes.data(), ids.size() * sizeof(int32_t));
  return ids;
}

}  // namespace octet::text
