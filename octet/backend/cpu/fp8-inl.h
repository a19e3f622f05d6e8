// SPDX-License-Identifier: Apache-2.0
/// Rounding float32 lanes to FP8, exactly as octet/core/float8.h defines it, and the choice of a type by its
/// DType.
#pragma once

#include "octet/backend/cpu/lanes-inl.h"

namespace octet::OCTET_ISA::lanes {

/// The numbers of a format. kBinades counts those of its normal range.
struct E4M3 {
  static constexpr int kMantissa = 3;
  static constexpr int kBinades = 15;
  static constexpr int32_t kMaxBits = 0x43e00000;        // 448
  static constexpr int32_t kMinNormalBits = 0x3c800000;  // 2^-6
};
struct E5M2 {
  static constexpr int kMantissa = 2;
  static constexpr int kBinades = 30;
  static constexpr int32_t kMaxBits = 0x47600000;        // 57344
  static constexpr int32_t kMinNormalBits = 0x38800000;  // 2^-14
};

template <class Format>
inline F32 max_of() {
  return as_float(splat(Format::kMaxBits));
}

struct Rounded {
  F32 size;   // |q|
  I32 codes;  // in the low byte
};

/// The magnitude, clamped and rounded to nearest even, and its code. Adding 2^(23 - mantissa bits) times the
/// value's own power of two makes the float adder round to the format's step, and the sum's last bits count
/// the steps.
template <class Format>
inline Rounded round_size_to_fp8(F32 v) {
  constexpr int kShift = 23 - Format::kMantissa;
  const I32 size = min(as_int(v) & 0x7fffffff, splat(Format::kMaxBits));
  const I32 power = max(size & 0x7f800000, splat(Format::kMinNormalBits));
  const I32 magic = power + (kShift << 23);
  const F32 sum = as_float(size) + as_float(magic);
  const I32 code = as_int(sum) - magic + ((power - Format::kMinNormalBits) >> kShift);
  return {sum - as_float(magic), code};
}
/// The same with the sign, and with what becomes of NaN.
template <class Format>
inline Rounded round_to_fp8(F32 v, bool nan_saturates) {
  const Rounded rounded = round_size_to_fp8<Format>(v);
  const I32 sign = (as_int(v) >> 24) & 0x80;
  if (nan_saturates) return {rounded.size, rounded.codes | (v == v ? sign : I32{})};
  return {v == v ? rounded.size : v, (v == v ? rounded.codes : splat(0x7f)) | sign};
}

inline void save_bytes(I32 codes, std::byte* into) {
  save(into, low_bytes_of(codes));
}
inline void save_bytes(I32 codes, std::byte* into, int64_t count) {
  if (count == kLanes) {
    save_bytes(codes, into);
  } else {
    std::byte part[kLanes];
    save_bytes(codes, part);
    __builtin_memcpy(into, part, static_cast<size_t>(count));
  }
}

/// body.operator()<T>() for a real dtype; for one of any kind below.
template <class Body>
inline void visit_real(DType dtype, Body&& body) {
  switch (dtype) {
    case DType::kF16:
      body.template operator()<float16>();
      break;
    case DType::kBF16:
      body.template operator()<bfloat16>();
      break;
    default:
      body.template operator()<float>();
      break;
  }
}
template <class Body>
inline void visit_any(DType dtype, Body&& body) {
  switch (dtype) {
    case DType::kF8E4M3:
      body.template operator()<float8_e4m3>();
      break;
    case DType::kF8E5M2:
      body.template operator()<float8_e5m2>();
      break;
    default:
      visit_real(dtype, body);
      break;
  }
}

}  // namespace octet::OCTET_ISA::lanes
