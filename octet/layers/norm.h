// SPDX-License-Identifier: Apache-2.0
/// Root-mean-square normalization, over a whole row or over each head.
#pragma once

#include <string>
#include <vector>

#include "octet/layers/context.h"
#include "octet/layers/parameter.h"

namespace octet {

class RmsNorm {
 public:
  /// `name` is the checkpoint's ("model.norm"), `size` the width that one mean is taken over.
  RmsNorm(const LayerContext& context, const std::string& name, int64_t size, float eps);
  RmsNorm(const RmsNorm&) = delete;  // parameters point into it
  RmsNorm& operator=(const RmsNorm&) = delete;

  void declare(std::vector<Parameter>& parameters);
  /// x, y [T, n * size] float32, may be strided, may be the same.
  void forward(ConstTensorView x, TensorView y) const;

 private:
  LayerContext context_;
  StoredVector weight_;  // [size]
  float eps_;
};

}  // namespace octet
