// SPDX-License-Identifier: Apache-2.0
// Latent attention over its short cache against the plain computation, in which every key and value of every
// head is made from kv_b_proj.
#include "octet/layers/latent_attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "octet/layers/positions.h"
#include "tests/layers/layer_rig.h"

namespace octet {
namespace {

using test::every_device;
using test::LayerRig;
using test::Numbers;
using Row = std::vector<double>;

constexpr int64_t kHeads = 3;
constexpr int64_t kHidden = 24;
constexpr int64_t kBlock = 4;
constexpr int64_t kTokens = 11;
const LatentAttentionSpec kSpec{.q_lora_rank = 20,
                                .kv_lora_rank = 12,
                                .qk_nope_head_dim = 10,
                                .qk_rope_head_dim = 6,
                                .v_head_dim = 14,
                                .rms_norm_eps = 1e-6F,
                                .scale_factor = 1.3F};

const AttentionLayerSpec kLayer{.name = "a",
                                .names = {},
                                .hidden_size = kHidden,
                                .num_attention_heads = kHeads,
                                .rope_style = RopeStyle::kInterleaved};

/// The layer, its cache of one sequence, and a step.
class LatentRig : public LayerRig<LatentAttention> {
 public:
  LatentRig(const BackendOptions& device, QuantOptions options, const LatentAttentionSpec& spec, DType cache)
      : LayerRig(device, std::move(options), kLayer, spec),
        positions_({.rotary_dim = spec.qk_rope_head_dim, .style = RopeStyle::kInterleaved}),
        arena_(arena(layer().scratch_bytes(kTokens) + positions_.angle_bytes(kTokens))) {
    const int64_t dim = spec.cached_dim();
    memory_.resize(static_cast<size_t>(3 * kBlock * dim * 4));
    scales_.resize(3 * kBlock);
    cache_ = {.keys = memory_.data(),
              .values = memory_.data(),
              .key_scales = scales_.data(),
              .value_scales = scales_.data(),
              .dtype = cache,
              .block_size = kBlock,
              .heads = 1,
              .head_dim = dim};
  }

  /// Tokens [first, first + count) of x [kTokens, H].
  std::vector<float> step(const std::vector<float>& x, int64_t first, int64_t count) {
    std::vector<int32_t> at(static_cast<size_t>(count));
    std::iota(at.begin(), at.end(), static_cast<int32_t>(first));
    const std::vector<int32_t> table = {2, 0, 1};  // blocks lie in any order
    std::vector<int32_t> slots;
    for (const int32_t p : at)
      slots.push_back(table[static_cast<size_t>(p / kBlock)] * static_cast<int32_t>(kBlock) +
                      p % static_cast<int32_t>(kBlock));
    const std::vector<int32_t> starts = {0, static_cast<int32_t>(count)};
    const std::vector<int32_t> contexts = {static_cast<int32_t>(first + count)};
    const Batch batch{
        .token_ids = at,
        .positions = at,
        .slots = slots,
        .layout = {
            .sequence_starts = starts, .context_lengths = contexts, .block_tables = table, .max_blocks = 3}};
    arena_.rewind(0);
    const RopeAngles angles = positions_.angles(at, arena_);
    std::vector<float> y(static_cast<size_t>(count * kHidden));
    layer().forward(view_of(x.data() + first * kHidden, Shape{count, kHidden}), batch, angles, cache_,
                    view_of(y.data(), Shape{count, kHidden}), arena_);
    return y;
  }

 private:
  RotaryPositions positions_;
  Arena arena_;
  std::vector<std::byte> memory_;
  std::vector<float> scales_;
  KvView cache_;
};

Row normalized(Row x, const Numbers& weight) {
  double sum = 0;
  for (const double value : x) sum += value * value;
  const double inverse = 1.0 / std::sqrt(sum / static_cast<double>(x.size()) + 1e-6);
  for (size_t i = 0; i < x.size(); ++i) x[i] *= inverse * weight.values[i];
  return x;
}

void rotate(std::span<double> x, int64_t position) {
  for (size_t pair = 0; 2 * pair < x.size(); ++pair) {
    const double frequency =
        std::pow(10000.0, -2.0 * static_cast<double>(pair) / static_cast<double>(x.size()));
    const double angle = static_cast<double>(position) * frequency;
    const double a = x[2 * pair];
    const double b = x[2 * pair + 1];
    x[2 * pair] = a * std::cos(angle) - b * std::sin(angle);
    x[2 * pair + 1] = b * std::cos(angle) + a * std::sin(angle);
  }
}

/// One token's queries, keys and values of all heads.
struct Token {
  Row q;  // [heads, nope + rope]
  Row k;  // the same
  Row v;  // [heads, v]
};

Token project(const std::map<std::string, Numbers>& w, const LatentAttentionSpec& spec, const Row& x,
              int64_t position) {
  const auto nope = static_cast<size_t>(spec.qk_nope_head_dim);
  const auto rope = static_cast<size_t>(spec.qk_rope_head_dim);
  const auto head = nope + rope;
  Token token;
  token.q = spec.q_lora_rank == 0
                ? w.at("a.q_proj.weight").times(x)
                : w.at("a.q_b_proj.weight")
                      .times(normalized(w.at("a.q_a_proj.weight").times(x), w.at("a.q_a_layernorm.weight")));
  Row low = w.at("a.kv_a_proj_with_mqa.weight").times(x);
  Row turned(low.end() - static_cast<std::ptrdiff_t>(rope), low.end());
  low.resize(low.size() - rope);
  rotate(turned, position);
  const Row both = w.at("a.kv_b_proj.weight").times(normalized(low, w.at("a.kv_a_layernorm.weight")));
  const auto values = static_cast<size_t>(spec.v_head_dim);
  for (size_t h = 0; h < kHeads; ++h) {
    rotate(std::span(token.q).subspan(h * head + nope, rope), position);
    const auto* from = both.data() + h * (nope + values);
    token.k.insert(token.k.end(), from, from + nope);
    token.k.insert(token.k.end(), turned.begin(), turned.end());
    token.v.insert(token.v.end(), from + nope, from + nope + values);
  }
  return token;
}

/// What the layer gives for the last of `tokens`.
Row attend(const std::map<std::string, Numbers>& w, const LatentAttentionSpec& spec,
           const std::vector<Token>& tokens) {
  const auto head = static_cast<size_t>(spec.qk_head_dim());
  const auto values = static_cast<size_t>(spec.v_head_dim);
  Row mixed(kHeads * values);
  for (size_t h = 0; h < kHeads; ++h) {
    Row weights;
    for (const Token& key : tokens) {
      double dot = 0;
      for (size_t d = 0; d < head; ++d) dot += tokens.back().q[h * head + d] * key.k[h * head + d];
      weights.push_back(
          std::exp(static_cast<double>(spec.scale_factor) * dot / std::sqrt(static_cast<double>(head))));
    }
    const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
    for (size_t t = 0; t < tokens.size(); ++t) {
      for (size_t d = 0; d < values; ++d)
        mixed[h * values + d] += weights[t] / sum * tokens[t].v[h * values + d];
    }
  }
  return w.at("a.o_proj.weight").times(mixed);
}

void expect_plain(LatentRig& rig, const LatentAttentionSpec& spec, double tolerance) {
  const std::vector<float> x = test::random_values(kTokens * kHidden, 2);
  const auto w = rig.weights();
  std::vector<float> actual = rig.step(x, 0, 6);  // a prompt, then token by token
  for (int64_t t = 6; t < kTokens; ++t) {
    const std::vector<float> one = rig.step(x, t, 1);
    actual.insert(actual.end(), one.begin(), one.end());
  }
  std::vector<Token> tokens;
  for (int64_t t = 0; t < kTokens; ++t) {
    const Row row(x.begin() + t * kHidden, x.begin() + (t + 1) * kHidden);
    tokens.push_back(project(w, spec, row, t));
    const Row expected = attend(w, spec, tokens);
    const double most = std::abs(
        *std::ranges::max_element(expected, [](double a, double b) { return std::abs(a) < std::abs(b); }));
    for (int64_t h = 0; h < kHidden; ++h) {
      EXPECT_NEAR(static_cast<double>(actual[static_cast<size_t>(t * kHidden + h)]),
                  expected[static_cast<size_t>(h)], tolerance * most)
          << "token " << t;
    }
  }
}

TEST(LatentAttention, EqualsThePlainComputationHoweverKvBIsStored) {
  for (const BackendOptions& device : every_device()) {
    for (const std::optional<Granularity> granularity :
         {std::optional<Granularity>(), std::optional(Granularity::kTensor),
          std::optional(Granularity::kChannel), std::optional(Granularity::kBlock)}) {
      QuantOptions options;
      options.quantization = granularity;
      LatentRig rig(device, options, kSpec, DType::kF32);
      expect_plain(rig, kSpec, 2e-5);
    }
    QuantOptions raw;
    raw.raw_cast = true;
    raw.fp8_format = DType::kF8E5M2;
    LatentRig rig(device, raw, kSpec, DType::kF32);
    expect_plain(rig, kSpec, 2e-5);
  }
}

TEST(LatentAttention, EqualsThePlainComputationWithoutALowRankOfTheQueries) {
  LatentAttentionSpec spec = kSpec;
  spec.q_lora_rank = 0;
  for (const BackendOptions& device : every_device()) {
    LatentRig rig(device, {}, spec, DType::kF32);
    expect_plain(rig, spec, 2e-5);
  }
}

TEST(LatentAttention, TakesACacheInFp8WithOneScaleForEachToken) {
  for (const BackendOptions& device : every_device()) {
    LatentRig rig(device, {}, kSpec, DType::kF8E4M3);
    expect_plain(rig, kSpec, 0.2);
  }
}

}  // namespace
}  // namespace octet
