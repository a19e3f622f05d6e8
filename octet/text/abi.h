// SPDX-License-Identifier: Apache-2.0
/// The C ABI of the Rust library in octet/text/rust (its abi.rs). Only the files of octet/text include it.
///
/// Functions that take a `reply` return a status: 0 and the result in `reply`, or one of the codes below and
/// the message. A reply is freed with `octet_text_free`. Nothing unwinds through these functions.
#pragma once

#include <cstddef>
#include <cstdint>

extern "C" {

struct OctetTextSlice {
  const char* data;
  size_t size;
};

struct OctetTextReply {
  char* data;
  size_t size;
};

struct OctetTextTokenizer;
struct OctetTextDecoder;
struct OctetTextTemplate;

enum OctetTextStatus : int32_t {
  OCTET_TEXT_OK = 0,
  OCTET_TEXT_FORMAT = 1,
  OCTET_TEXT_CONFIG = 2,
  OCTET_TEXT_ARGUMENT = 3,
  OCTET_TEXT_INTERNAL = 4,
};

void octet_text_free(OctetTextReply reply);

bool octet_text_tokenizer_present(OctetTextSlice folder);
int32_t octet_text_tokenizer_open(OctetTextSlice folder, const OctetTextTokenizer** out,
                                  OctetTextReply* reply);
void octet_text_tokenizer_close(const OctetTextTokenizer* handle);
/// Replies with int32 ids in the machine's byte order.
int32_t octet_text_encode(const OctetTextTokenizer* handle, OctetTextSlice text, bool add_special,
                          bool parse_special, OctetTextReply* reply);
int32_t octet_text_decode(const OctetTextTokenizer* handle, const int32_t* ids, size_t count,
                          bool skip_special, OctetTextReply* reply);
int32_t octet_text_piece(const OctetTextTokenizer* handle, int32_t id, OctetTextReply* reply);
/// Replies with one int32 id, or nothing.
int32_t octet_text_token_to_id(const OctetTextTokenizer* handle, OctetTextSlice token, OctetTextReply* reply);
/// Replies with the int32 ids of BOS and EOS, -1 for one that does not exist.
int32_t octet_text_marks(const OctetTextTokenizer* handle, OctetTextReply* reply);
int64_t octet_text_vocab_size(const OctetTextTokenizer* handle);

/// The decoder keeps the tokenizer alive.
OctetTextDecoder* octet_text_decoder_open(const OctetTextTokenizer* handle, bool skip_special);
void octet_text_decoder_close(OctetTextDecoder* decoder);
int32_t octet_text_decoder_push(OctetTextDecoder* decoder, int32_t id, OctetTextReply* reply);
int32_t octet_text_decoder_finish(OctetTextDecoder* decoder, OctetTextReply* reply);

/// `out` becomes null where the folder has no chat template.
int32_t octet_text_template_open(OctetTextSlice folder, OctetTextTemplate** out, OctetTextReply* reply);
void octet_text_template_close(OctetTextTemplate* handle);
int32_t octet_text_render(const OctetTextTemplate* handle, OctetTextSlice request, OctetTextReply* reply);
}
