// SPDX-License-Identifier: Apache-2.0
#include "octet/layers/moe.h"

#include <algorithm>
#include <utility>

#include "octet/layers/shard.h"

namespace octet {
namespace {

RouterSpec router_spec(const MoeSpec& spec, const std::string& layer, int64_t hidden_size) {
  RouterSpec router = spec.router;
  router.module = layer + "." + spec.names.module + ".gate";
  // transformers 5 writes fused experts and their router under the one name for all architectures.
  if (spec.names.module != "mlp") router.alias = layer + ".mlp.gate";
  if (spec.shared_gated) router.shared_gate = layer + "." + spec.names.module + "." + spec.names.shared_gate;
  router.hidden_size = hidden_size;
  return router;
}

ExpertLinearSpec gate_up_spec(const MoeSpec& spec, const std::string& layer, int64_t hidden_size,
                              IndexRange share) {
  return {.name = layer + "." + spec.names.module + ".experts",
          .members = {spec.names.gate_proj, spec.names.up_proj},
          .fused = layer + ".mlp.experts.gate_up_proj",
          .num_experts = spec.router.num_experts,
          .member_features = spec.intermediate_size,
          .in_features = hidden_size,
          .rows = share};
}

ExpertLinearSpec down_spec(const MoeSpec& spec, const std::string& layer, int64_t hidden_size,
                           IndexRange share) {
  return {.name = layer + "." + spec.names.module + ".experts",
          .members = {spec.names.down_proj},
          .fused = layer + ".mlp.experts.down_proj",
          .num_experts = spec.router.num_experts,
          .member_features = hidden_size,
          .in_features = spec.intermediate_size,
          .cols = share};
}

std::unique_ptr<Mlp> shared_expert(const LayerContext& context, const MoeSpec& spec, const std::string& layer,
                                   int64_t hidden_size) {
  if (spec.shared_intermediate_size == 0) return nullptr;
  return std::make_unique<Mlp>(context,
                               MlpSpec{.name = layer + "." + spec.names.module + "." + spec.names.shared,
                                       .names = {},
                                       .hidden_size = hidden_size,
                                       .intermediate_size = spec.shared_intermediate_size});
}

std::span<int32_t> take_numbers(Arena& arena, int64_t count) {
  return {reinterpret_cast<int32_t*>(arena.take(count * static_cast<int64_t>(sizeof(int32_t)))),
          static_cast<size_t>(count)};
}

}  // namespace

Moe::Moe(const LayerContext& context, const MoeSpec& spec, const std::string& layer, int64_t hidden_size)
    : context_(context),
      spec_(spec),
      hidden_size_(hidden_size),
      router_(context, router_spec(spec, layer, hidden_size)),
      gate_up_proj_(context, gate_up_spec(spec, layer, hidden_size,
                                          width_share(spec.intermediate_size, context.communicator))),
      down_proj_(context, down_spec(spec, layer, hidden_size,
                                    width_share(spec.intermediate_size, context.communicator))),
      shared_(shared_expert(context, spec, layer, hidden_size)) {}

void Moe::declare(std::vector<Parameter>& parameters) {
  router_.declare(parameters);
  gate_up_proj_.declare(parameters);
  down_proj_.declare(parameters);
  if (shared_) shared_->declare(parameters);
}

Moe::Dispatch Moe::take_dispatch(int64_t tokens, Arena& arena) const {
  const int64_t rows = tokens * spec_.router.experts_per_token;
  return {.experts = take_numbers(arena, rows),
          .starts = take_numbers(arena, spec_.router.num_experts + 1),
          .tokens = take_numbers(arena, rows),
          .rows = take_numbers(arena, tokens * terms())};
}

/// Counting sort: the rows of an expert stand in the order of their tokens. The shared expert's rows follow
/// those of all others.
void Moe::sort_by_expert(int64_t tokens, const Dispatch& dispatch) const {
  const int64_t chosen = spec_.router.experts_per_token;
  std::ranges::fill(dispatch.starts, 0);
  for (const int32_t expert : dispatch.experts) ++dispatch.starts[static_cast<size_t>(expert)];
  int32_t row = 0;
  for (int32_t& start : dispatch.starts) row += std::exchange(start, row);
  for (int64_t t = 0; t < tokens; ++t) {
    int32_t* rows = dispatch.rows.data() + t * terms();
    for (int64_t j = 0; j < chosen; ++j) {
      const auto expert = static_cast<size_t>(dispatch.experts[static_cast<size_t>(t * chosen + j)]);
      rows[j] = dispatch.starts[expert]++;
      dispatch.tokens[static_cast<size_t>(rows[j])] = static_cast<int32_t>(t);
    }
    if (shared_) rows[chosen] = static_cast<int32_t>(tokens * chosen + t);
  }
  // Each start has moved to its expert's end, which is the next one's start.
  std::shift_right(dispatch.starts.begin(), dispatch.starts.end(), 1);
  dispatch.starts[0] = 0;
}

void Moe::forward(ConstTensorView x, TensorView y, Arena& arena) const {
  if (x.rows() == 0) return;
  const ArenaScope scope(arena);
  const int64_t tokens = x.rows();
  const int64_t chosen = spec_.router.experts_per_token;
  const int64_t rows = tokens * chosen;
  check(x.row_stride() == x.cols(), "a mixture takes rows without gaps");
  const Dispatch dispatch = take_dispatch(tokens, arena);
  const TensorView weights = arena.tensor(DType::kF32, Shape{tokens, terms()});
  router_.forward(x, dispatch.experts, weights, arena);
  sort_by_expert(tokens, dispatch);

  // The inputs of the experts, and in their place, once they have been read, the outputs.
  const TensorView outputs = arena.tensor(DType::kF32, Shape{tokens * terms(), hidden_size_});
  const TensorView routed = outputs.slice_rows(0, rows);
  const QuantMatrixView table{
      .data = const_cast<std::byte*>(x.data()), .dtype = DType::kF32, .rows = tokens, .cols = hidden_size_};
  context_.backend.embed(dispatch.tokens, table, routed);
  const TensorView gate_up = arena.tensor(DType::kF32, Shape{rows, gate_up_proj_.out_features()});
  const TensorView activated = arena.tensor(DType::kF32, Shape{rows, down_proj_.in_features()});
  gate_up_proj_.forward(routed, dispatch.starts, gate_up, arena);
  context_.backend.silu_mul(gate_up, activated);
  down_proj_.forward(activated, dispatch.starts, routed, arena);
  if (shared_) {
    shared_->forward(x, outputs.slice_rows(rows, rows + tokens), arena);
    for (int64_t t = 0; t < tokens && !spec_.shared_gated; ++t) weights.row<float>(t)[chosen] = 1.0F;
  }
  context_.backend.combine_rows(outputs, dispatch.rows, weights, y);
}

int64_t Moe::scratch_bytes(int64_t tokens) const {
  const int64_t rows = tokens * spec_.router.experts_per_token;
  const int64_t numbers = 2 * rows + spec_.router.num_experts + 1 + tokens * terms();
  const int64_t floats = tokens * terms() * (1 + hidden_size_) + rows * 3 * down_proj_.in_features();
  const int64_t inner =
      std::max({router_.scratch_bytes(tokens), gate_up_proj_.scratch_bytes(rows),
                down_proj_.scratch_bytes(rows), shared_ ? shared_->scratch_bytes(tokens) : 0});
  return (numbers + floats) * kFloatBytes + 8 * kAlignmentSlack + inner;
}

}  // namespace octet
