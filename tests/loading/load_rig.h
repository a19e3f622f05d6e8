// SPDX-License-Identifier: Apache-2.0
/// A backend with its ledger, a load in one line, and every way to store a matrix.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "octet/backend/reference/reference_backend.h"
#include "octet/loading/weight_loader.h"
#include "tests/loading/memory_source.h"
#include "tests/support/refusal.h"

namespace octet {

inline constexpr auto kVllm = NumericsProfile::kVllm;
inline constexpr auto kPackage = NumericsProfile::kCompressedTensors;

struct Device {
  explicit Device(MatrixLayout layout = MatrixLayout::kRowMajor, int threads = 1)
      : backend(ledger, layout, threads) {}
  MemoryLedger ledger;
  ReferenceBackend backend;

  /// The stored elements, row by row.
  std::vector<std::byte> codes(const StoredMatrix& matrix) {
    const QuantMatrixView view = matrix.matrix.view();
    std::vector<std::byte> bytes(static_cast<size_t>(view.rows * view.cols * dtype_size(view.dtype)));
    backend.read_rows(view, 0, {bytes.data(), view.dtype, Shape{view.rows, view.cols}});
    return bytes;
  }
  static std::vector<float> scales(const StoredMatrix& matrix) {
    const QuantMatrixView view = matrix.matrix.view();
    return {view.scales, view.scales + matrix.matrix.spec().scale_count()};
  }
  LoadReport load(const TestModel& model, const WeightSource& source, LoadOptions options = {}) {
    return WeightLoader(backend, model.parameters, std::move(options)).pull(source);
  }
};

using test::refusal;

inline StorageRule rule_of(Granularity granularity, NumericsProfile profile = kVllm,
                           DType format = DType::kF8E4M3) {
  return {.quantize = true, .format = format, .granularity = granularity, .numerics = profile};
}

inline std::vector<StorageRule> all_rules() {
  std::vector<StorageRule> rules;
  for (const DType format : {DType::kF8E4M3, DType::kF8E5M2}) {
    for (const NumericsProfile profile : {kVllm, kPackage}) {
      for (const Granularity granularity :
           {Granularity::kTensor, Granularity::kChannel, Granularity::kBlock}) {
        rules.push_back(rule_of(granularity, profile, format));
      }
    }
    rules.push_back({.quantize = true, .format = format, .raw_cast = true});
  }
  return rules;
}

inline std::string describe(const StorageRule& rule) {
  return std::string(to_string(rule.format)) + " " + std::string(to_string(rule.granularity)) + " " +
         std::string(to_string(rule.numerics)) + (rule.raw_cast ? " raw" : "");
}

}  // namespace octet
