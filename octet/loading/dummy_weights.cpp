// SPDX-License-Identifier: Apache-2.0
#include "octet/loading/dummy_weights.h"

#include <cmath>
#include <cstring>
#include <set>

#include "octet/base/error.h"
#include "octet/base/mix_bits.h"

namespace octet {
namespace {

constexpr double kDeviation = 0.02;
constexpr int64_t kDrawsPerHash = 4;

uint64_t seed_of(std::string_view name) {
  uint64_t hash = 0xcbf29ce484222325U;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3U;
  return mix_bits(hash);
}

/// The x below which a standard normal value lies with this probability.
double normal_quantile(double probability) {
  double low = -8;
  double high = 8;
  for (int i = 0; i < 48; ++i) {
    const double middle = (low + high) / 2;
    (std::erfc(-middle / std::sqrt(2.0)) / 2 < probability ? low : high) = middle;
  }
  return (low + high) / 2;
}

bool is_norm_weight(const SourceTensor& tensor) {
  return tensor.shape.size() == 1 && tensor.name.find("norm") != std::string::npos &&
         tensor.name.ends_with("weight");
}

}  // namespace

DummyWeights::DummyWeights(std::span<const Parameter> parameters, DType dtype) {
  check(is_real(dtype), "random weights are F32, F16 or BF16");
  std::set<std::string_view> seen;
  for (const Parameter& parameter : parameters) {
    if (!parameter.required || !seen.insert(parameter.name).second) continue;
    SourceTensor tensor{
        .name = parameter.name, .dtype = dtype, .shape = {}, .file = "random", .index = tensors_.size()};
    for (int axis = 0; axis < parameter.shape.rank(); ++axis) tensor.shape.push_back(parameter.shape[axis]);
    tensors_.push_back(std::move(tensor));
  }
  for (size_t i = 0; i < kQuantiles / 2; ++i) {
    const double value = kDeviation * normal_quantile((static_cast<double>(i) + 0.5) / kQuantiles);
    quantiles_[i] = static_cast<float>(value);
    quantiles_[kQuantiles - 1 - i] = static_cast<float>(-value);
  }
}

void DummyWeights::read_rows(const SourceTensor& tensor, int64_t begin, int64_t end,
                             std::span<std::byte> into) const {
  const int64_t row_elements = tensor.elements() / tensor.rows();
  check(begin >= 0 && begin <= end && end <= tensor.rows() &&
            static_cast<int64_t>(into.size()) == (end - begin) * row_elements * dtype_size(tensor.dtype),
        "the rows to read lie outside of the tensor");
  draw(tensor, {.begin = begin * row_elements, .end = end * row_elements}, into);
}

int64_t DummyWeights::read_block(const SourceTensor& tensor, IndexRange rows, IndexRange cols,
                                 std::span<std::byte> into) const {
  const auto segment = static_cast<size_t>(cols.size() * dtype_size(tensor.dtype));
  check(rows.begin >= 0 && rows.begin <= rows.end && rows.end <= tensor.rows() && cols.begin >= 0 &&
            cols.begin <= cols.end && cols.end <= tensor.cols() &&
            into.size() == static_cast<size_t>(rows.size()) * segment,
        "the block to read lies outside of the tensor");
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    const int64_t first = row * tensor.cols();
    draw(tensor, {.begin = first + cols.begin, .end = first + cols.end},
         into.subspan(static_cast<size_t>(row - rows.begin) * segment, segment));
  }
  return static_cast<int64_t>(into.size());
}

void DummyWeights::draw(const SourceTensor& tensor, IndexRange elements, std::span<std::byte> into) const {
  const uint64_t seed = seed_of(tensor.name);
  const float mean = is_norm_weight(tensor) ? 1.0F : 0.0F;
  visit_float(tensor.dtype, [&]<class T>() {
    uint64_t hash = 0;
    for (int64_t i = elements.begin; i < elements.end; ++i) {
      const int64_t lane = i % kDrawsPerHash;
      if (lane == 0 || i == elements.begin) hash = mix_bits(seed + static_cast<uint64_t>(i / kDrawsPerHash));
      const float draw = quantiles_[(hash >> (16 * lane)) % kQuantiles];
      const T value = from_float<T>(mean + draw);
      std::memcpy(into.data() + (i - elements.begin) * static_cast<int64_t>(sizeof(T)), &value, sizeof(T));
    }
  });
}

}  // namespace octet
