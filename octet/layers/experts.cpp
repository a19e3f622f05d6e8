// SPDX-License-Identifier: Apache-2.0
#include "octet/layers/experts.h"

#include <memory>

#include "octet/layers/linear.h"

namespace octet {
namespace {

/// Memory for `count` values in the arena, each value-initialized.
template <class T>
std::span<T> take(Arena& arena, int64_t count) {
  auto* values = reinterpret_cast<T*>(arena.take(count * static_cast<int64_t>(sizeof(T))));
  std::uninitialized_value_construct_n(values, count);
  return {values, static_cast<size_t>(count)};
}

/// Columns that share a scale of quantized activations: as wide as the blocks of the weight, 0 for all.
int64_t activation_group(const QuantMatrixView& w) {
  return w.scale_kind == ScaleKind::kGrid ? w.parts.front().block_cols : 0;
}

bool take_alike(const QuantMatrixView& a, const QuantMatrixView& b) {
  return is_fp8(a.dtype) == is_fp8(b.dtype) && activation_group(a) == activation_group(b);
}

}  // namespace

ExpertLinear::ExpertLinear(const LayerContext& context, ExpertLinearSpec spec)
    : context_(context), spec_(std::move(spec)), weights_(static_cast<size_t>(spec_.num_experts)) {
  for (int64_t e = 0; e < spec_.num_experts; ++e) {
    StoredMatrix& weight = weights_[static_cast<size_t>(e)];
    weight.name = spec_.name + "." + std::to_string(e) + "." + spec_.members.front();
    weight.rows = out_features();
    weight.cols = spec_.cols ? spec_.cols->size() : spec_.in_features;
    weight.member_rows.assign(spec_.members.size(), member_rows());
    weight.rule = context_.quant_spec.merged_rule(modules(e));
  }
}

int64_t ExpertLinear::member_rows() const {
  return spec_.rows ? spec_.rows->size() : spec_.member_features;
}

int64_t ExpertLinear::out_features() const {
  return static_cast<int64_t>(spec_.members.size()) * member_rows();
}

std::vector<std::string> ExpertLinear::modules(int64_t expert) const {
  std::vector<std::string> names;
  for (const std::string& member : spec_.members)
    names.push_back(spec_.name + "." + std::to_string(expert) + "." + member);
  return names;
}

void ExpertLinear::declare(std::vector<Parameter>& parameters) {
  for (int64_t e = 0; e < spec_.num_experts; ++e) {
    StoredMatrix& weight = weights_[static_cast<size_t>(e)];
    const std::vector<std::string> members = modules(e);
    for (size_t m = 0; m < members.size(); ++m) {
      const auto member = static_cast<int64_t>(m);
      parameters.push_back(
          {.name = members[m] + ".weight",
           .shape = Shape{spec_.member_features, spec_.in_features},
           .destination = &weight,
           .offset = member * member_rows(),
           .required = true,
           .twin = {},
           .slice = {.rows = spec_.rows, .cols = spec_.cols},
           .expert = ExpertPlace{.experts = spec_.name,
                                 .fused = spec_.fused,
                                 .index = e,
                                 .count = spec_.num_experts,
                                 .first_row = member * spec_.member_features,
                                 .rows = static_cast<int64_t>(members.size()) * spec_.member_features}});
    }
    declare_input_scales(context_, modules(e), weight, parameters);
  }
}

void ExpertLinear::forward(ConstTensorView x, std::span<const int32_t> starts, TensorView y,
                           Arena& arena) const {
  const ArenaScope scope(arena);
  const std::span<MatrixGroup> groups = take<MatrixGroup>(arena, spec_.num_experts);
  const std::span<int32_t> experts = take<int32_t>(arena, spec_.num_experts);
  size_t count = 0;
  for (size_t e = 0; e < weights_.size(); ++e) {
    if (starts[e] == starts[e + 1]) continue;
    groups[count] = {.w = weights_[e].matrix.view(), .begin = starts[e], .end = starts[e + 1]};
    experts[count++] = static_cast<int32_t>(e);
  }
  const Activations dense{.dense = x, .precision = context_.precision(), .quantized = {}};
  const bool never = context_.quant_spec.activation_scheme(context_.backend) == ActivationScheme::kNone;
  for (size_t first = 0; first < count;) {
    size_t last = first + 1;
    while (last < count && (never || take_alike(groups[first].w, groups[last].w))) ++last;
    const auto run = std::span<const MatrixGroup>(groups).subspan(first, last - first);
    if (never || !is_fp8(run.front().w.dtype)) {
      context_.backend.grouped_gemm(dense, run, y);
    } else {
      multiply_quantized(x, run, experts.subspan(first, last - first), y, arena);
    }
    first = last;
  }
}

void ExpertLinear::multiply_quantized(ConstTensorView x, std::span<const MatrixGroup> groups,
                                      std::span<const int32_t> experts, TensorView y, Arena& arena) const {
  const ArenaScope scope(arena);
  QuantizedRows codes;
  take_codes(arena, x.rows(), x.cols(), activation_group(groups.front().w), codes);
  const Activations all{.dense = {}, .precision = context_.precision(), .quantized = codes.view};
  const auto quantize = [&](int64_t begin, int64_t end, std::optional<float> scale) {
    context_.backend.quantize_activations(x.slice_rows(begin, end), context_.precision(), scale,
                                          *activation_rows(all, begin, end).quantized);
  };
  if (context_.quant_spec.activation_scheme(context_.backend) == ActivationScheme::kStatic) {
    for (size_t i = 0; i < groups.size(); ++i)
      quantize(groups[i].begin, groups[i].end, weights_[static_cast<size_t>(experts[i])].input_scale);
  } else {
    quantize(groups.front().begin, groups.back().end, std::nullopt);
  }
  context_.backend.grouped_gemm(all, groups, y);
}

int64_t ExpertLinear::scratch_bytes(int64_t rows) const {
  return spec_.num_experts * static_cast<int64_t>(sizeof(MatrixGroup) + sizeof(int32_t)) +
         2 * kAlignmentSlack + multiply_scratch_bytes(context_, weights_.front(), rows);
}

}  // namespace octet
