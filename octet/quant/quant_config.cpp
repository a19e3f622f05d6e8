// SPDX-License-Identifier: Apache-2.0
#include "octet/quant/quant_config.h"

#include <algorithm>
#include <cctype>
#include <utility>

#include "octet/base/error.h"
#include "octet/base/faults.h"

namespace octet {
namespace {

constexpr int64_t kLargestBlock = int64_t{1} << 20;
constexpr std::string_view kKnown =
    "Octet reads FP8 checkpoints of fp8, compressed-tensors (float-quantized) and modelopt (FP8)";

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

void read_block(QuantConfig& result, JsonFields& fields, std::string_view name) {
  if (!fields.has(name)) return;
  const std::vector<int64_t> sizes = fields.integers(name, 1, kLargestBlock);
  if (sizes.empty()) return;  // a fault already
  if (sizes.size() != 2) {
    fields.fault(name, "expected two sizes, found " + std::to_string(sizes.size()));
    return;
  }
  result.block_rows = sizes[0];
  result.block_cols = sizes[1];
}

void read_fp8(JsonFields& fields, QuantConfig& result) {
  read_block(result, fields, "weight_block_size");
  const std::string scheme = fields.string("activation_scheme", "dynamic");
  if (scheme != "dynamic" && scheme != "static") {
    fields.fault("activation_scheme", "expected \"dynamic\" or \"static\", found " + quote(scheme));
  }
  result.static_activations = scheme == "static";
  // E5M2 files say so in the dtype of their tensors; other formats are not FP8.
  const std::string format = fields.string("fmt", "e4m3");
  if (format != "e4m3" && format != "e5m2")
    fields.fault("fmt", "expected \"e4m3\" or \"e5m2\", found " + quote(format));
  result.ignore = fields.strings("modules_to_not_convert");
  const std::vector<std::string> layers = fields.strings("ignored_layers");
  result.ignore.insert(result.ignore.end(), layers.begin(), layers.end());
}

/// One side of a group: 8-bit floats or nothing.
void check_eight_bit_floats(JsonFields& side) {
  const int64_t bits = side.integer("num_bits", 8, 1, 64);
  const std::string type = side.string("type", "float");
  if (bits != 8)
    side.fault("num_bits", "expected 8 (FP8), found " + std::to_string(bits) + "; " + std::string(kKnown));
  if (type != "float")
    side.fault("type", "expected \"float\", found " + quote(type) + "; " + std::string(kKnown));
}

void read_group(const Json& group, const std::string& source, JsonFields& fields, QuantConfig& result) {
  JsonFields group_fields(group, source);
  if (const Json* weights = group_fields.object("weights")) {
    JsonFields side(*weights, source + ".weights");
    check_eight_bit_floats(side);
    if (side.string("strategy", "tensor") == "block") read_block(result, side, "block_structure");
    fields.absorb(side);
  }
  if (const Json* inputs = group_fields.object("input_activations")) {
    JsonFields side(*inputs, source + ".input_activations");
    check_eight_bit_floats(side);
    // "local" is compressed-tensors' word for scales made from the values in hand.
    const bool word = side.has("dynamic") && inputs->at("dynamic").is_string();
    result.static_activations = result.static_activations || (!word && !side.boolean("dynamic", false));
    fields.absorb(side);
  }
  fields.absorb(group_fields);
}

void read_compressed_tensors(const std::string& source, JsonFields& fields, QuantConfig& result) {
  const std::string format = fields.string("format", "float-quantized");
  // A group may have a format of its own under "mixed-precision"; its types are checked one by one.
  if (format != "float-quantized" && format != "naive-quantized" && format != "mixed-precision") {
    fields.fault("format",
                 "expected \"float-quantized\", found " + quote(format) + "; " + std::string(kKnown));
  }
  if (const Json* groups = fields.object("config_groups")) {
    for (const auto& [name, group] : groups->items()) {
      const std::string path = source + ".config_groups." + quote(name);
      if (group.is_object()) {
        read_group(group, path, fields, result);
      } else {
        fields.fault("config_groups", "expected groups that are objects");
      }
    }
  }
  result.ignore = fields.strings("ignore");
  if (fields.has("kv_cache_scheme")) result.kv_cache_scheme = "fp8";
}

void read_modelopt(const Json& config, const std::string& source, JsonFields& fields, QuantConfig& result) {
  const Json* nested = config.contains("quantization") && config["quantization"].is_object()
                           ? &config["quantization"]
                           : nullptr;
  const Json& settings = nested != nullptr ? *nested : config;
  JsonFields inner(settings, nested != nullptr ? source + ".quantization" : source);
  const std::string algorithm = lower(inner.string("quant_algo", ""));
  if (algorithm == "fp8_pb_wo" || algorithm == "fp8_pb_real") {
    result.block_rows = kScaleBlock;
    result.block_cols = kScaleBlock;
  } else if (algorithm != "fp8" && algorithm != "fp8_per_channel_per_token") {
    inner.fault("quant_algo", "expected \"FP8\", found " + quote(algorithm) + "; " + std::string(kKnown));
  }
  result.static_activations = algorithm == "fp8";
  result.ignore = inner.strings("exclude_modules");
  if (result.ignore.empty()) result.ignore = inner.strings("ignore");
  result.kv_cache_scheme = lower(inner.string("kv_cache_quant_algo", ""));
  fields.absorb(inner);
}

/// What `octet quantize --format raw` writes.
void read_octet(JsonFields& fields, QuantConfig& result) {
  const std::string format = fields.string("format", "raw");
  if (format != "raw") fields.fault("format", "expected \"raw\", found " + quote(format));
  read_block(result, fields, "weight_block_size");
  result.static_activations = fields.string("activation_scheme", "dynamic") == "static";
  result.ignore = fields.strings("ignore");
}

}  // namespace

QuantConfig read_quant_config(const Json& config, std::string_view source) {
  const std::string where = std::string(source) + ": quantization_config";
  if (!config.is_object()) throw ConfigError(where + ": expected an object");
  JsonFields fields(config, where);
  QuantConfig result;
  result.method = lower(fields.string("quant_method", config.contains("quantization") ? "modelopt" : ""));
  if (result.method == "fp8") {
    read_fp8(fields, result);
  } else if (result.method == "compressed-tensors") {
    read_compressed_tensors(where, fields, result);
  } else if (result.method == "modelopt") {
    read_modelopt(config, where, fields, result);
  } else if (result.method == "octet") {
    read_octet(fields, result);
  } else {
    fields.fault("quant_method", "found " + quote(result.method) + "; " + std::string(kKnown));
  }
  fields.finish();
  return result;
}

}  // namespace octet
