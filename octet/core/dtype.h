// SPDX-License-Identifier: Apache-2.0
/// Element types, named as safetensors names them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "octet/base/error.h"
#include "octet/core/bfloat16.h"
#include "octet/core/float8.h"

namespace octet {

/// What counts of float32 are multiplied by to be bytes.
inline constexpr int64_t kFloatBytes = sizeof(float);

enum class DType : uint8_t {
  kF64,
  kF32,
  kF16,
  kBF16,
  kF8E4M3,
  kF8E5M2,
  kF8E4M3FNUZ,
  kF8E5M2FNUZ,
  kF8E8M0,
  kF6E2M3,
  kF6E3M2,
  kF4,
  kI64,
  kI32,
  kI16,
  kI8,
  kU64,
  kU32,
  kU16,
  kU8,
  kBool,
  kC64,
};

/// "F8_E4M3", "BF16", ... as in a safetensors header.
[[nodiscard]] std::string_view to_string(DType dtype);
[[nodiscard]] std::optional<DType> parse_dtype(std::string_view safetensors_name);
/// "bfloat16", "float8_e4m3fn", ... as PyTorch spells it.
[[nodiscard]] std::string_view torch_name(DType dtype);

/// Bits of one element (F4 and F6 are packed, so this is not always a multiple of 8).
[[nodiscard]] int dtype_bits(DType dtype);
/// Bytes of one element. Throws ArgumentError for sub-byte types.
[[nodiscard]] int64_t dtype_size(DType dtype);

/// E4M3 or E5M2 (the FNUZ variants are recognised in files but not computed with).
[[nodiscard]] constexpr bool is_fp8(DType d) {
  return d == DType::kF8E4M3 || d == DType::kF8E5M2;
}
/// F32, F16 or BF16: what a weight may be before quantization, and what an activation may be.
[[nodiscard]] constexpr bool is_real(DType d) {
  return d == DType::kF32 || d == DType::kF16 || d == DType::kBF16;
}
/// The largest finite value of a float type that Octet computes with.
[[nodiscard]] float max_finite(DType dtype);
/// True when every value of `from` is also a value of `to`, both real or FP8.
[[nodiscard]] bool widens_exactly(DType from, DType to);

/// Calls body.template operator()<T>() with T in {float, bfloat16, float16, float8_e4m3, float8_e5m2}, whose
/// to_float / from_float overloads and constructors are in float8.h and bfloat16.h.
template <class Body>
decltype(auto) visit_float(DType dtype, Body&& body) {
  switch (dtype) {
    case DType::kF32:
      return body.template operator()<float>();
    case DType::kBF16:
      return body.template operator()<bfloat16>();
    case DType::kF16:
      return body.template operator()<float16>();
    case DType::kF8E4M3:
      return body.template operator()<float8_e4m3>();
    case DType::kF8E5M2:
      return body.template operator()<float8_e5m2>();
    default:
      throw ArgumentError("visit_float: not a float type: " + std::string(to_string(dtype)));
  }
}

}  // namespace octet
