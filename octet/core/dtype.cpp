// SPDX-License-Identifier: Apache-2.0
#include "octet/core/dtype.h"

#include <array>

namespace octet {
namespace {

struct Row {
  DType dtype;
  std::string_view name;   // safetensors
  std::string_view torch;  // PyTorch
  int bits;
};

constexpr std::array<Row, 22> kRows = {{
    {DType::kF64, "F64", "float64", 64},
    {DType::kF32, "F32", "float32", 32},
    {DType::kF16, "F16", "float16", 16},
    {DType::kBF16, "BF16", "bfloat16", 16},
    {DType::kF8E4M3, "F8_E4M3", "float8_e4m3fn", 8},
    {DType::kF8E5M2, "F8_E5M2", "float8_e5m2", 8},
    {DType::kF8E4M3FNUZ, "F8_E4M3FNUZ", "float8_e4m3fnuz", 8},
    {DType::kF8E5M2FNUZ, "F8_E5M2FNUZ", "float8_e5m2fnuz", 8},
    {DType::kF8E8M0, "F8_E8M0", "float8_e8m0fnu", 8},
    {DType::kF6E2M3, "F6_E2M3", "float6_e2m3fn", 6},
    {DType::kF6E3M2, "F6_E3M2", "float6_e3m2fn", 6},
    {DType::kF4, "F4", "float4_e2m1fn", 4},
    {DType::kI64, "I64", "int64", 64},
    {DType::kI32, "I32", "int32", 32},
    {DType::kI16, "I16", "int16", 16},
    {DType::kI8, "I8", "int8", 8},
    {DType::kU64, "U64", "uint64", 64},
    {DType::kU32, "U32", "uint32", 32},
    {DType::kU16, "U16", "uint16", 16},
    {DType::kU8, "U8", "uint8", 8},
    {DType::kBool, "BOOL", "bool", 8},
    {DType::kC64, "C64", "complex64", 64},
}};

const Row& row(DType dtype) {
  return kRows.at(static_cast<size_t>(dtype));
}

}  // namespace

std::string_view to_string(DType dtype) {
  return row(dtype).name;
}
std::string_view torch_name(DType dtype) {
  return row(dtype).torch;
}
int dtype_bits(DType dtype) {
  return row(dtype).bits;
}

std::optional<DType> parse_dtype(std::string_view safetensors_name) {
  for (const Row& r : kRows) {
    if (r.name == safetensors_name) return r.dtype;
  }
  return std::nullopt;
}

int64_t dtype_size(DType dtype) {
  const int bits = row(dtype).bits;
  if (bits % 8 != 0)
    throw ArgumentError("elements of " + std::string(to_string(dtype)) + " are not whole bytes");
  return bits / 8;
}

float max_finite(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return 0x1.fffffep127F;
    case DType::kBF16:
      return 0x1.fep127F;
    case DType::kF16:
      return 65504.0F;
    case DType::kF8E4M3:
      return 448.0F;
    case DType::kF8E5M2:
      return 57344.0F;
    default:
      throw ArgumentError("max_finite: not a float type: " + std::string(to_string(dtype)));
  }
}

bool widens_exactly(DType from, DType to) {
  if (from == to || to == DType::kF32) return is_real(from) || is_fp8(from);
  if (to == DType::kBF16 || to == DType::kF16) return is_fp8(from);
  return false;
}

}  // namespace octet
