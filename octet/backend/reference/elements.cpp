// SPDX-License-Identifier: Apache-2.0
#include "octet/backend/reference/elements.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "octet/core/float8.h"

namespace octet::reference {

float load(const std::byte* from, DType dtype) {
  return visit_float(dtype, [&]<class T>() {
    T value;
    std::memcpy(&value, from, sizeof(T));
    return to_float(value);
  });
}

void save(float value, std::byte* into, DType dtype) {
  visit_float(dtype, [&]<class T>() {
    const T stored = from_float<T>(value);
    std::memcpy(into, &stored, sizeof(T));
  });
}

float load(ConstTensorView x, int64_t row, int64_t col) {
  return load(x.row<std::byte>(row) + col * dtype_size(x.dtype()), x.dtype());
}

void load_codes(const QuantMatrixView& w, int64_t row, std::span<float> out) {
  for (int64_t c = 0; c < w.cols; ++c) out[static_cast<size_t>(c)] = load(w.element(row, c), w.dtype);
}

float abs_max(std::span<const float> values) {
  float amax = 0.0F;
  for (const float value : values) {
    if (std::fabs(value) > amax) amax = std::fabs(value);
  }
  return amax;
}

float clamp_nan_to_max(float value, float limit) {
  return std::fmax(-limit, std::fmin(value, limit));
}

uint8_t encode(float quotient, DType dtype, bool nan_saturates) {
  const float limit = max_finite(dtype);
  const bool keep_nan = std::isnan(quotient) && !nan_saturates;
  const float value = keep_nan ? quotient : clamp_nan_to_max(quotient, limit);
  return dtype == DType::kF8E4M3 ? to_float8_e4m3(value).bits : to_float8_e5m2(value).bits;
}

float dynamic_scale(float amax, DType dtype) {
  return std::max(amax / max_finite(dtype), kSmallestScale);
}

}  // namespace octet::reference
