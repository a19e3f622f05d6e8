// SPDX-License-Identifier: Apache-2.0
// Mistral: a window in the first models, a head_dim of its own in the later; Ministral 3, whose queries grow
// with the position (in its rope parameters); and the text model inside Mistral 3's image models.
#include "octet/models/architectures.h"
#include "octet/models/config.h"

namespace octet {

DecoderSpec read_mistral(JsonFields& fields) {
  DecoderSpec spec = read_common(fields, {.max_position_embeddings = 131072, .rms_norm_eps = 1e-6});
  const int64_t window = fields.integer("sliding_window", 0, 0, int64_t{1} << 30);
  spec.sliding_windows.assign(static_cast<size_t>(spec.num_hidden_layers), window);
  return spec;
}

namespace {

/// The names of the text model under another prefix, which its head bears or not.
WeightNames wrapped(const std::string& model, const std::string& lm_head) {
  WeightNames names = WeightNames().with_prefix("model.", model);
  names.lm_head = lm_head;
  return names;
}

}  // namespace

DecoderSpec read_mistral3(JsonFields& fields) {
  const Json* text = fields.object("text_config");
  if (text == nullptr) {
    fields.fault("text_config", "expected the text model's configuration, found nothing");
    return {};
  }
  Json merged = *text;
  for (const char* field : {"dtype", "torch_dtype", "tie_word_embeddings", "bos_token_id", "eos_token_id"}) {
    if (!merged.contains(field) && fields.has(field)) merged[field] = fields.json()[field];
  }
  JsonFields text_fields(merged, "config.json: text_config");
  const std::string type = text_fields.string("model_type", "mistral");
  if (type != "mistral" && type != "ministral3") {
    fields.fault("text_config.model_type", "expected mistral or ministral3, found \"" + type + "\"");
  }
  DecoderSpec spec = read_mistral(text_fields);
  fields.absorb(text_fields);
  // As transformers 5 writes it; as 4 did; and without the wrapper.
  spec.names = wrapped("model.language_model.", "lm_head");
  spec.other_names = {wrapped("language_model.model.", "language_model.lm_head"), WeightNames()};
  spec.skipped_tensors = {"*vision_tower.*", "*multi_modal_projector.*"};
  return spec;
}

}  // namespace octet
