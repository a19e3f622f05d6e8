// SPDX-License-Identifier: Apache-2.0
/// From config.json to a DecoderSpec: the table of architectures.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "octet/base/error.h"
#include "octet/base/json.h"
#include "octet/models/decoder_spec.h"

namespace octet {

/// A config.json of an architecture that is not in the table.
class UnknownArchitecture : public ConfigError {
 public:
  UnknownArchitecture(const std::string& message, std::string asked)
      : ConfigError(message), asked_(std::move(asked)) {}
  /// What the config calls itself.
  [[nodiscard]] const std::string& asked() const { return asked_; }

 private:
  std::string asked_;
};

/// Reads a parsed config.json. `source` names the file in messages.
/// Throws UnknownArchitecture; ConfigError naming all wrong fields.
[[nodiscard]] DecoderSpec read_decoder_spec(const Json& config, const std::string& source);

/// Reads a parsed params.json, as Mistral describes its own models. Throws ConfigError with all wrong fields.
[[nodiscard]] DecoderSpec read_mistral_params(const Json& params, const std::string& source);

/// A config.json read as a known architecture, whatever it calls itself.
struct ArchitectureReading {
  std::string architecture;
  DecoderSpec spec;                 ///< whole only where there are no faults
  std::vector<std::string> faults;  ///< fields that are missing or wrong
  std::vector<std::string> unread;  ///< fields that this architecture does not ask for
};

/// Throws ArgumentError for an `architecture` that is not known.
[[nodiscard]] ArchitectureReading read_as(const Json& config, const std::string& source,
                                          std::string_view architecture);

/// From 0 to 1: how near `asked`, an architecture or model type, is to the names of a known architecture.
[[nodiscard]] double name_similarity(std::string_view asked, std::string_view architecture);

/// "LlamaForCausalLM", ... in the order of the table.
[[nodiscard]] std::vector<std::string> known_architectures();

}  // namespace octet
