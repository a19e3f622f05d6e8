// SPDX-License-Identifier: Apache-2.0
/// The header of a safetensors file: JSON that names tensors and says where their bytes are. Used by
/// safetensors.cpp.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "octet/checkpoint/tensor_file.h"

namespace octet {

/// A header larger than this is refused, as the format says.
inline constexpr int64_t kMaxSafetensorsHeader = 100'000'000;

struct SafetensorsHeader {
  std::vector<TensorInfo> tensors;              ///< ascending by offset
  std::map<std::string, std::string> metadata;  ///< `__metadata__`
};

/// `text` is the header (its spaces included), which is followed by `data_bytes` of data from byte
/// `data_begin` of the file `source`. Throws FormatError, with all its faults together, unless every tensor
/// has a known dtype, sizes that do not overflow and as many bytes as these need, and the tensors cover the
/// data without overlap, hole or rest.
[[nodiscard]] SafetensorsHeader parse_safetensors_header(std::string_view text, std::string_view source,
                                                         int64_t data_begin, int64_t data_bytes);

}  // namespace octet
