// SPDX-License-Identifier: Apache-2.0
#include "octet/layers/mlp.h"

#include "octet/layers/shard.h"

namespace octet {
namespace {

LinearSpec gate_up_spec(const MlpSpec& spec, IndexRange rows) {
  return {.name = spec.name + ".gate_up_proj",
          .members = {{spec.name + "." + spec.names.gate_proj, spec.intermediate_size, rows},
                      {spec.name + "." + spec.names.up_proj, spec.intermediate_size, rows}},
          .in_features = spec.hidden_size,
          .bias = spec.bias};
}

LinearSpec up_spec(const MlpSpec& spec, IndexRange rows) {
  const std::string name = spec.name + "." + spec.names.up_proj;
  return {.name = name,
          .members = {{name, spec.intermediate_size, rows}},
          .in_features = spec.hidden_size,
          .bias = spec.bias};
}

LinearSpec down_spec(const MlpSpec& spec, IndexRange cols) {
  const std::string name = spec.name + "." + spec.names.down_proj;
  return {.name = name,
          .members = {{name, spec.hidden_size}},
          .in_features = spec.intermediate_size,
          .bias = spec.bias,
          .cols = cols};
}

}  // namespace

Mlp::Mlp(const LayerContext& context, const MlpSpec& spec)
    : context_(context),
      gate_up_proj_(context, gate_up_spec(spec, width_share(spec.intermediate_size, context.communicator))),
      down_proj_(context, down_spec(spec, width_share(spec.intermediate_size, context.communicator))) {}

void Mlp::declare(std::vector<Parameter>& parameters) {
  gate_up_proj_.declare(parameters);
  down_proj_.declare(parameters);
}

void Mlp::forward(ConstTensorView x, TensorView y, Arena& arena) const {
  const ArenaScope scope(arena);
  const int64_t tokens = x.rows();
  const TensorView gate_up = arena.tensor(DType::kF32, Shape{tokens, gate_up_proj_.out_features()});
  gate_up_proj_.forward(x, gate_up, arena);
  const TensorView activated = arena.tensor(DType::kF32, Shape{tokens, down_proj_.in_features()});
  context_.backend.silu_mul(gate_up, activated);
  down_proj_.forward(activated, y, arena);
}

int64_t Mlp::scratch_bytes(int64_t tokens) const {
  return tokens * 3 * down_proj_.in_features() * kFloatBytes + 2 * kAlignmentSlack +
         gate_up_proj_.scratch_bytes(tokens) + down_proj_.scratch_bytes(tokens);
}

PlainMlp::PlainMlp(const LayerContext& context, const MlpSpec& spec)
    : context_(context),
      up_proj_(context, up_spec(spec, width_share(spec.intermediate_size, context.communicator))),
      down_proj_(context, down_spec(spec, width_share(spec.intermediate_size, context.communicator))) {}

void PlainMlp::declare(std::vector<Parameter>& parameters) {
  up_proj_.declare(parameters);
  down_proj_.declare(parameters);
}

void PlainMlp::forward(ConstTensorView x, TensorView y, Arena& arena) const {
  const ArenaScope scope(arena);
  const TensorView inner = arena.tensor(DType::kF32, Shape{x.rows(), down_proj_.in_features()});
  up_proj_.forward(x, inner, arena);
  context_.backend.relu(inner);
  down_proj_.forward(inner, y, arena);
}

int64_t PlainMlp::scratch_bytes(int64_t tokens) const {
  return tokens * down_proj_.in_features() * kFloatBytes + kAlignmentSlack + up_proj_.scratch_bytes(tokens) +
         down_proj_.scratch_bytes(tokens);
}

}  // namespace octet
