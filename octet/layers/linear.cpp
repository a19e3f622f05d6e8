// SPDX-License-Identifier: Apache-2.0
#include "octet/layers/linear.h"

#include <algorithm>

#include "octet/base/checked_math.h"

namespace octet {
namespace {

std::vector<std::string> modules_of(const LinearSpec& spec) {
  std::vector<std::string> modules;
  for (const LinearMember& member : spec.members) modules.push_back(member.module);
  return modules;
}

int64_t rows_of(const LinearMember& member) {
  return member.rows ? member.rows->size() : member.out_features;
}

}  // namespace

Linear::Linear(const LayerContext& context, LinearSpec spec) : context_(context), spec_(std::move(spec)) {
  weight_.name = spec_.name;
  weight_.cols = spec_.cols ? spec_.cols->size() : spec_.in_features;
  weight_.rule = context_.quant_spec.merged_rule(modules_of(spec_));
  for (const LinearMember& member : spec_.members) {
    weight_.member_rows.push_back(rows_of(member));
    weight_.rows += rows_of(member);
  }
  bias_.name = spec_.name + ".bias";
  for (const LinearMember& member : spec_.members) bias_.size += spec_.bias ? bias_range(member).size() : 0;
}

/// Of a sum over the ranks, the first has the bias.
IndexRange Linear::bias_range(const LinearMember& member) const {
  if (spec_.cols && context_.communicator.rank() != 0) return {};
  return member.rows.value_or(IndexRange{.begin = 0, .end = member.out_features});
}

void Linear::declare(std::vector<Parameter>& parameters) {
  int64_t row = 0;
  for (const LinearMember& member : spec_.members) {
    parameters.push_back({.name = member.module + ".weight",
                          .shape = Shape{member.out_features, spec_.in_features},
                          .destination = &weight_,
                          .offset = row,
                          .required = true,
                          .twin = {},
                          .slice = {.rows = member.rows, .cols = spec_.cols}});
    if (spec_.bias) {
      const bool cut = member.rows || spec_.cols;
      parameters.push_back(
          {.name = member.module + ".bias",
           .shape = Shape{member.out_features},
           .destination = &bias_,
           .offset = bias_.size == 0 ? 0 : row,
           .required = true,
           .twin = {},
           .slice = {.rows = cut ? std::optional(bias_range(member)) : std::nullopt, .cols = {}}});
    }
    row += rows_of(member);
  }
  declare_input_scales(context_, modules_of(spec_), weight_, parameters);
}

void declare_input_scales(const LayerContext& context, std::span<const std::string> modules,
                          StoredMatrix& weight, std::vector<Parameter>& parameters) {
  if (context.quant_spec.options().activation_scheme != ActivationScheme::kStatic) return;
  // Sized once: the parameters point to the elements.
  weight.input_scales.resize(modules.size());
  for (size_t i = 0; i < modules.size(); ++i) {
    StoredVector& scale = weight.input_scales[i];
    scale.name = modules[i] + ".input_scale";
    scale.size = 1;
    scale.exact = true;
    parameters.push_back({.name = scale.name,
                          .shape = Shape{1},
                          .destination = &scale,
                          .offset = 0,
                          .required = false,  // the loader asks for it where the matrix is in FP8
                          .twin = modules[i] + ".activation_scale"});
  }
}

void Linear::forward(ConstTensorView x, TensorView y, Arena& arena) const {
  multiply(context_, weight_, x, bias_.tensor.view(), y, arena);
}

int64_t Linear::scratch_bytes(int64_t tokens) const {
  return multiply_scratch_bytes(context_, weight_, tokens);
}

void take_codes(Arena& arena, int64_t tokens, int64_t cols, int64_t group, QuantizedRows& into) {
  into.grid = {.row_begin = 0,
               .row_end = tokens,
               .block_rows = 1,
               .block_cols = std::max<int64_t>(group, 1),
               .grid_cols = group > 0 ? ceil_div(cols, group) : 1};
  into.view = {.data = arena.take(tokens * cols),
               .dtype = DType::kF8E4M3,
               .rows = tokens,
               .cols = cols,
               .layout = MatrixLayout::kRowMajor,
               .scale_kind = group > 0 ? ScaleKind::kGrid : ScaleKind::kRow,
               .scales = nullptr,
               .parts = {}};
  if (group > 0) into.view.parts = std::span(&into.grid, 1);
  into.view.scales = arena.tensor(DType::kF32, Shape{tokens, into.grid.grid_cols}).row<float>(0);
}

void multiply(const LayerContext& context, const StoredMatrix& weight, ConstTensorView x,
              ConstTensorView bias, TensorView y, Arena& arena) {
  const QuantMatrixView w = weight.matrix.view();
  const bool dense =
      !is_fp8(w.dtype) || context.quant_spec.activation_scheme(context.backend) == ActivationScheme::kNone;
  if (dense) {
    context.backend.gemm({.dense = x, .precision = context.precision(), .quantized = {}}, w, bias, y);
    return;
  }
  const ArenaScope scope(arena);
  const int64_t tokens = x.rows();
  // A grid of weight scales takes activations in groups as wide as its blocks, all else one scale per token.
  const int64_t group = w.scale_kind == ScaleKind::kGrid ? w.parts.front().block_cols : 0;
  QuantizedRows codes;
  take_codes(arena, tokens, weight.cols, group, codes);
  const QuantMatrixView& q = codes.view;
  const bool fixed = context.quant_spec.activation_scheme(context.backend) == ActivationScheme::kStatic;
  context.backend.quantize_activations(x, context.precision(), fixed ? weight.input_scale : std::nullopt, q);
  context.backend.gemm({.dense = {}, .precision = context.precision(), .quantized = q}, w, bias, y);
}

int64_t multiply_scratch_bytes(const LayerContext& context, const StoredMatrix& weight, int64_t tokens) {
  if (context.quant_spec.activation_scheme(context.backend) == ActivationScheme::kNone) return 0;
  // One scale for each column is more than any grid has.
  return tokens * weight.cols * (1 + kFloatBytes) + 2 * kAlignmentSlack;
}

}  // namespace octet
