// SPDX-License-Identifier: Apache-2.0
#include "octet/text/chat_template.h"

#include "octet/text/abi.h"
#include "octet/text/reply.h"

namespace octet {

using text::call;
using text::slice;

void ChatTemplate::Close::operator()(OctetTextTemplate* handle) const {
  octet_text_template_close(handle);
}

std::optional<ChatTemplate> ChatTemplate::open(const std::filesystem::path& folder) {
  OctetTextTemplate* handle = nullptr;
  call([&](OctetTextReply* reply) {
    return octet_text_template_open(slice(folder.native()), &handle, reply);
  });
  if (handle == nullptr) return std::nullopt;
  return ChatTemplate(handle);
}

std::string ChatTemplate::render(std::string_view request_json) const {
  return call(
      [&](OctetTextReply* reply) { return octet_text_render(handle_.get(), slice(request_json), reply); });
}

}  // namespace octet
