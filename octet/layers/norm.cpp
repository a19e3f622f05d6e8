// SPDX-License-Identifier: Apache-2.0
#include "octet/layers/norm.h"

namespace octet {
namespace {

void declare_vector(StoredVector& vector, const std::string& name, std::vector<Parameter>& parameters) {
  parameters.push_back({.name = name,
                        .shape = Shape{vector.size},
                        .destination = &vector,
                        .offset = 0,
                        .required = true,
                        .twin = {}});
}

}  // namespace

std::unique_ptr<Norm> make_norm(NormKind kind, const LayerContext& context, const std::string& name,
                                int64_t size, float eps) {
  switch (kind) {
    case NormKind::kRms:
      return std::make_unique<RmsNorm>(context, name, size, eps);
    case NormKind::kLayer:
    case NormKind::kLayerPlain:
      return std::make_unique<LayerNorm>(context, name, size, eps, kind == NormKind::kLayer);
    case NormKind::kNone:
      break;
  }
  return std::make_unique<NoNorm>();
}

RmsNorm::RmsNorm(const LayerContext& context, const std::string& name, int64_t size, float eps)
    : context_(context), weight_{.name = name, .size = size, .tensor = {}}, eps_(eps) {}

void RmsNorm::declare(std::vector<Parameter>& parameters) {
  declare_vector(weight_, weight_.name + ".weight", parameters);
}

void RmsNorm::forward(ConstTensorView x, TensorView y) const {
  context_.backend.rms_norm(x, weight_.tensor.view(), eps_, y);
}

LayerNorm::LayerNorm(const LayerContext& context, const std::string& name, int64_t size, float eps,
                     bool affine)
    : context_(context),
      weight_{.name = name, .size = affine ? size : 0, .tensor = {}},
      bias_{.name = name + ".bias", .size = affine ? size : 0, .tensor = {}},
      eps_(eps) {}

void LayerNorm::declare(std::vector<Parameter>& parameters) {
  if (weight_.size == 0) return;
  declare_vector(weight_, weight_.name + ".weight", parameters);
  declare_vector(bias_, bias_.name, parameters);
}

void LayerNorm::forward(ConstTensorView x, TensorView y) const {
  context_.backend.layer_norm(x, {.weight = weight_.tensor.view(), .bias = bias_.tensor.view()}, eps_, y);
}

void NoNorm::forward(ConstTensorView x, TensorView y) const {
  check(x.data() == y.data(), "what is not normalized stays where it is");
}

}  // namespace octet
