// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "octet/backend/reference/elements.h"
#include "octet/backend/reference/reference_backend.h"

namespace octet {
namespace {

void check_float32(ConstTensorView x) {
  check(x.dtype() == DType::kF32, "activations are float32");
}

/// Rotates the pair (x[first], x[second]) by the angle whose cosine and sine are given.
void rotate(float* x, int64_t first, int64_t second, double cos, double sin) {
  const double a = x[first];
  const double b = x[second];
  x[first] = static_cast<float>(a * cos - b * sin);
  x[second] = static_cast<float>(b * cos + a * sin);
}

}  // namespace

void ReferenceBackend::embed(std::span<const int32_t> ids, const QuantMatrixView& table, TensorView y) {
  check_float32(y);
  check(y.rows() == static_cast<int64_t>(ids.size()), "embed gives one row for each id");
  for (int64_t t = 0; t < y.rows(); ++t) {
    const int64_t id = ids[static_cast<size_t>(t)];
    check(id >= 0 && id < table.rows, "a token id lies outside of the table");
    read_rows(table, id, y.slice_rows(t, t + 1));
  }
}

void ReferenceBackend::rms_norm(ConstTensorView x, ConstTensorView weight, float eps, TensorView y) {
  check_float32(x);
  check_float32(y);
  const int64_t dim = weight.cols();
  check(x.shape() == y.shape() && dim > 0 && x.cols() % dim == 0, "rms_norm needs rows of whole runs");
  for (int64_t t = 0; t < x.rows(); ++t) {
    for (int64_t begin = 0; begin < x.cols(); begin += dim) {
      const float* from = x.row<float>(t) + begin;
      double sum = 0;
      for (int64_t i = 0; i < dim; ++i) sum += static_cast<double>(from[i]) * static_cast<double>(from[i]);
      const double inverse = 1.0 / std::sqrt(sum / static_cast<double>(dim) + static_cast<double>(eps));
      for (int64_t i = 0; i < dim; ++i) {
        const double gain = static_cast<double>(reference::load(weight, 0, i));
        y.row<float>(t)[begin + i] = static_cast<float>(static_cast<double>(from[i]) * inverse * gain);
      }
    }
  }
}

void ReferenceBackend::layer_norm(ConstTensorView x, const NormParameters& parameters, float eps,
                                  TensorView y) {
  check_float32(x);
  check_float32(y);
  const auto& [weight, bias] = parameters;
  check(x.shape() == y.shape(), "layer_norm keeps the shape");
  check((weight.empty() || weight.cols() == x.cols()) && (bias.empty() || bias.cols() == x.cols()),
        "layer_norm needs a weight and a bias for each column, or none");
  const auto count = static_cast<double>(x.cols());
  for (int64_t t = 0; t < x.rows(); ++t) {
    const float* from = x.row<float>(t);
    double mean = 0;
    for (int64_t i = 0; i < x.cols(); ++i) mean += static_cast<double>(from[i]) / count;
    double variance = 0;
    for (int64_t i = 0; i < x.cols(); ++i) {
      variance += std::pow(static_cast<double>(from[i]) - mean, 2) / count;
    }
    const double inverse = 1.0 / std::sqrt(variance + static_cast<double>(eps));
    for (int64_t i = 0; i < x.cols(); ++i) {
      const double gain = weight.empty() ? 1.0 : static_cast<double>(reference::load(weight, 0, i));
      const double shift = bias.empty() ? 0.0 : static_cast<double>(reference::load(bias, 0, i));
      y.row<float>(t)[i] = static_cast<float>((static_cast<double>(from[i]) - mean) * inverse * gain + shift);
    }
  }
}

void ReferenceBackend::relu(TensorView x) {
  check_float32(x);
  for (int64_t t = 0; t < x.rows(); ++t) {
    for (int64_t i = 0; i < x.cols(); ++i) {
      float& value = x.row<float>(t)[i];
      if (value < 0.0F) value = 0.0F;
    }
  }
}

void ReferenceBackend::add(ConstTensorView x, TensorView y) {
  check_float32(x);
  check_float32(y);
  check(x.shape() == y.shape(), "add needs equal shapes");
  for (int64_t t = 0; t < x.rows(); ++t) {
    for (int64_t h = 0; h < x.cols(); ++h) y.row<float>(t)[h] += x.row<float>(t)[h];
  }
}

void ReferenceBackend::silu_mul(ConstTensorView gate_up, TensorView y) {
  check_float32(gate_up);
  check_float32(y);
  check(gate_up.rows() == y.rows() && (y.rows() == 0 || gate_up.cols() == 2 * y.cols()),
        "silu_mul halves the columns");
  for (int64_t t = 0; t < y.rows(); ++t) {
    for (int64_t i = 0; i < y.cols(); ++i) {
      const double gate = gate_up.row<float>(t)[i];
      const double up = gate_up.row<float>(t)[y.cols() + i];
      y.row<float>(t)[i] = static_cast<float>(gate / (1.0 + std::exp(-gate)) * up);
    }
  }
}

void ReferenceBackend::rope(TensorView x, int64_t head_dim, ConstTensorView cos, ConstTensorView sin,
                            RopeStyle style) {
  check_float32(x);
  const int64_t half = cos.cols();
  check(cos.shape() == sin.shape() && cos.dtype() == DType::kF32 && sin.dtype() == DType::kF32,
        "rope needs float32 cosines and sines of one shape");
  check(x.rows() == cos.rows() && head_dim > 0 && x.cols() % head_dim == 0 && 2 * half <= head_dim,
        "rope needs whole heads that hold the rotated columns");
  const bool interleaved = style == RopeStyle::kInterleaved;
  for (int64_t t = 0; t < x.rows(); ++t) {
    for (int64_t begin = 0; begin < x.cols(); begin += head_dim) {
      for (int64_t i = 0; i < half; ++i) {
        const int64_t first = begin + (interleaved ? 2 * i : i);
        const int64_t second = interleaved ? first + 1 : first + half;
        rotate(x.row<float>(t), first, second, cos.row<float>(t)[i], sin.row<float>(t)[i]);
      }
    }
  }
}

void ReferenceBackend::combine_rows(ConstTensorView x, std::span<const int32_t> rows, ConstTensorView weights,
                                    TensorView y) {
  check_float32(x);
  check_float32(weights);
  check_float32(y);
  const int64_t terms = weights.cols();
  check(weights.rows() == y.rows() && static_cast<int64_t>(rows.size()) == y.rows() * terms,
        "combine_rows needs a row and a weight for each term");
  for (int64_t t = 0; t < y.rows(); ++t) {
    for (int64_t h = 0; h < y.cols(); ++h) {
      double sum = 0;
      for (int64_t j = 0; j < terms; ++j) {
        const int64_t row = rows[static_cast<size_t>(t * terms + j)];
        check(row >= 0 && row < x.rows(), "combine_rows: a row lies outside of x");
        sum += static_cast<double>(weights.row<float>(t)[j]) * static_cast<double>(x.row<float>(row)[h]);
      }
      y.row<float>(t)[h] = static_cast<float>(sum);
    }
  }
}

}  // namespace octet
