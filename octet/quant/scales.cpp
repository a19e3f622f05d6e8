// SPDX-License-Identifier: Apache-2.0
#include "octet/quant/scales.h"

#include <algorithm>

#include "octet/base/error.h"

namespace octet {
namespace {

constexpr float kSmallestBlockAmax = 1e-4F;
constexpr double kChannelFloor = 512.0;  // the smallest scale of a row is 1 / (512 max)

float round_to(DType dtype, float value) {
  return visit_float(dtype, [&]<class T>() { return to_float(from_float<T>(value)); });
}

float vllm_scale(float amax, const ScaleRule& rule) {
  const float max = max_finite(rule.format);
  switch (rule.granularity) {
    case Granularity::kTensor:
      return amax / max;
    case Granularity::kChannel:
      return std::max(amax / max, static_cast<float>(1.0 / (static_cast<double>(max) * kChannelFloor)));
    case Granularity::kBlock:
      return std::max(amax, kSmallestBlockAmax) / max;
  }
  throw ArgumentError("unknown granularity");
}

}  // namespace

float epsilon(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return 0x1p-23F;
    case DType::kF16:
      return 0x1p-10F;
    case DType::kBF16:
      return 0x1p-7F;
    default:
      throw ArgumentError("epsilon: not a source of quantization: " + std::string(to_string(dtype)));
  }
}

float scale_from_amax(float amax, const ScaleRule& rule) {
  if (rule.numerics == NumericsProfile::kVllm) return vllm_scale(amax, rule);
  const float scale = round_to(rule.source, amax / max_finite(rule.format));
  return scale == 0.0F ? epsilon(rule.source) : scale;
}

QuantizeRule quantize_rule(const ScaleRule& rule) {
  using Quotient = QuantizeRule::Quotient;
  if (rule.numerics == NumericsProfile::kCompressedTensors) {
    return {.quotient = Quotient::kDivideRounded, .nan_saturates = false};
  }
  switch (rule.granularity) {
    // vLLM's static kernel, whose fmin and fmax drop a NaN; its row and block paths go through torch, which
    // keeps it.
    case Granularity::kTensor:
      return {.quotient = Quotient::kReciprocal, .nan_saturates = true};
    case Granularity::kChannel:
      return {.quotient = Quotient::kDivide, .nan_saturates = false};
    case Granularity::kBlock:
      return {.quotient = Quotient::kReciprocal, .nan_saturates = false};
  }
  throw ArgumentError("unknown granularity");
}

QuantizeRule raw_cast_rule() {
  return {.quotient = QuantizeRule::Quotient::kDivide, .nan_saturates = false};
}

}  // namespace octet
