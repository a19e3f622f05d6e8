// SPDX-License-Identifier: Apache-2.0
#include "octet/layers/norm.h"

namespace octet {

RmsNorm::RmsNorm(const LayerContext& context, const std::string& name, int64_t size, float eps)
    : context_(context), weight_{.name = name, .size = size, .tensor = {}}, eps_(eps) {}

void RmsNorm::declare(std::vector<Parameter>& parameters) {
  parameters.push_back({.name = weight_.name + ".weight",
                        .shape = Shape{weight_.size},
                        .destination = &weight_,
                        .offset = 0,
                        .required = true,
                        .twin = {}});
}

void RmsNorm::forward(ConstTensorView x, TensorView y) const {
  context_.backend.rms_norm(x, weight_.tensor.view(), eps_, y);
}

}  // namespace octet
