// SPDX-License-Identifier: Apache-2.0
/// A layer with random weights, loaded as a checkpoint's are, and those weights as plain numbers.
#pragma once

#include <cmath>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "octet/backend/factory.h"
#include "octet/base/cpu_features.h"
#include "octet/comm/single.h"
#include "octet/layers/context.h"
#include "octet/loading/weight_loader.h"
#include "tests/loading/memory_source.h"

namespace octet::test {

/// A matrix of plain numbers.
struct Numbers {
  int64_t rows = 0;
  int64_t cols = 0;
  std::vector<double> values;

  [[nodiscard]] double at(int64_t row, int64_t col) const {
    return values[static_cast<size_t>(row * cols + col)];
  }
  /// y = this * x.
  [[nodiscard]] std::vector<double> times(const std::vector<double>& x) const {
    std::vector<double> y(static_cast<size_t>(rows));
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < cols; ++c) y[static_cast<size_t>(r)] += at(r, c) * x[static_cast<size_t>(c)];
    }
    return y;
  }
};

/// Loads random weights, large enough that products matter, into the destinations of `parameters`.
inline void load_random(Backend& backend, const std::vector<Parameter>& parameters, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0F, 1.0F);
  MemorySource source;
  for (const Parameter& parameter : parameters) {
    const bool vector = parameter.shape.rank() == 1;
    const float size = vector ? 0.3F : 1.5F / std::sqrt(static_cast<float>(parameter.shape[1]));
    std::vector<float> values(static_cast<size_t>(parameter.shape.elements()));
    for (float& value : values) value = (vector ? 1.0F : 0.0F) + size * normal(random);
    std::vector<int64_t> shape;
    for (int axis = 0; axis < parameter.shape.rank(); ++axis) shape.push_back(parameter.shape[axis]);
    source.add(parameter.name, DType::kF32, std::move(shape), values);
  }
  LoadOptions options;
  options.compute_dtype = DType::kF32;
  (void)WeightLoader(backend, parameters, options).pull(source);
}

/// What was stored, dequantized, by parameter name.
inline std::map<std::string, Numbers> stored_numbers(Backend& backend,
                                                     const std::vector<Parameter>& parameters) {
  std::map<std::string, Numbers> all;
  for (const Parameter& parameter : parameters) {
    Numbers numbers;
    QuantMatrixView view;
    if (auto* const* matrix = std::get_if<StoredMatrix*>(&parameter.destination)) {
      view = (*matrix)->matrix.view();
      numbers.rows = parameter.shape[0];
      numbers.cols = parameter.shape[1];
    } else {
      const TensorView vector = std::get<StoredVector*>(parameter.destination)->tensor.view();
      view = {.data = vector.data(), .dtype = vector.dtype(), .rows = 1, .cols = vector.cols()};
      numbers.rows = 1;
      numbers.cols = parameter.shape[0];
    }
    std::vector<float> values(static_cast<size_t>(numbers.rows * numbers.cols));
    const int64_t first = view.rows == 1 ? 0 : parameter.offset;
    backend.read_rows(view, first, view_of(values.data(), Shape{numbers.rows, numbers.cols}));
    numbers.values.assign(values.begin(), values.end());
    all[parameter.name] = std::move(numbers);
  }
  return all;
}

inline std::vector<float> random_values(int64_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0F, 1.0F);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = normal(random);
  return values;
}

/// The reference, and the CPU at every instruction set of this machine.
inline std::vector<BackendOptions> every_device() {
  std::vector<BackendOptions> all = {{.device = "reference", .threads = 1, .isa = {}}};
  for (const CpuIsa isa : supported_isas()) all.push_back({.device = "cpu", .threads = 2, .isa = isa});
  return all;
}

/// One layer with random weights on a device of its own.
template <class Layer>
class LayerRig {
 public:
  /// `layer` are the arguments of the layer's constructor after its context.
  template <class... Args>
  LayerRig(const BackendOptions& device, QuantOptions options, const Args&... layer)
      : backend_(make_backend(device, ledger_)),
        quant_(std::move(options)),
        layer_(LayerContext{.backend = *backend_,
                            .communicator = communicator_,
                            .quant_spec = quant_,
                            .compute_dtype = DType::kF32},
               layer...) {
    layer_.declare(parameters_);
    load_random(*backend_, parameters_, 1);
  }

  [[nodiscard]] std::vector<Parameter>& parameters() { return parameters_; }
  [[nodiscard]] std::map<std::string, Numbers> weights() { return stored_numbers(*backend_, parameters_); }

 protected:
  [[nodiscard]] const Layer& layer() const { return layer_; }
  [[nodiscard]] Arena arena(int64_t bytes) {
    return Arena(Buffer(backend_->allocator(), ledger_, "test", bytes));
  }

 private:
  MemoryLedger ledger_;
  std::unique_ptr<Backend> backend_;
  SingleCommunicator communicator_;
  QuantSpec quant_;
  Layer layer_;
  std::vector<Parameter> parameters_;
};

}  // namespace octet::test
