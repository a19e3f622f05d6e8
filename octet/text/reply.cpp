// SPDX-License-Identifier: Apache-2.0
#include "octet/text/reply.h"

#include <cstring>
#include <string_view>

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

/// A message may quote a file, whose characters must not steer a terminal: those of control, but for new
/// lines and tabs, are written out.
std::string without_controls(std::string_view message) {
  constexpr std::string_view kHex = "0123456789abcdef";
  std::string text;
  for (size_t i = 0; i < message.size(); ++i) {
    const auto byte = static_cast<unsigned char>(message[i]);
    const bool low = (byte < 0x20 && byte != '\n' && byte != '\t') || byte == 0x7f;
    const bool high =
        byte == 0xc2 && i + 1 < message.size() && (message[i + 1] & 0xe0) == 0x80;  // U+0080 to 9F
    if (!low && !high) {
      text += message[i];
      continue;
    }
    const auto code = high ? static_cast<unsigned char>(message[++i]) : byte;
    text += "\\x";
    text += kHex[code >> 4U];
    text += kHex[code & 15U];
  }
  return text;
}

}  // namespace

std::string call(const std::function<int32_t(OctetTextReply*)>& function) {
  ReplyGuard guard;
  const int32_t status = function(&guard.reply);
  std::string bytes(guard.reply.data, guard.reply.size);
  if (status == OCTET_TEXT_OK) return bytes;
  bytes = without_controls(bytes);
  switch (status) {
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
