// SPDX-License-Identifier: Apache-2.0
// A mixture of experts against the plain sum over the experts that its router chooses.
#include "octet/layers/moe.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "tests/layers/layer_rig.h"

namespace octet {
namespace {

using test::every_device;
using test::LayerRig;
using test::Numbers;
using Row = std::vector<double>;

constexpr int64_t kHiddenSize = 24;
constexpr int64_t kExperts = 7;
constexpr int64_t kChosen = 3;

MoeSpec mixture(bool shared) {
  MoeSpec spec;
  spec.intermediate_size = 22;
  spec.shared_intermediate_size = shared ? 30 : 0;
  spec.shared_gated = shared;
  spec.router.num_experts = kExperts;
  spec.router.experts_per_token = kChosen;
  return spec;
}

class MoeRig : public LayerRig<Moe> {
 public:
  MoeRig(const BackendOptions& device, QuantOptions options, const MoeSpec& spec)
      : LayerRig(device, std::move(options), spec, "l", kHiddenSize),
        arena_(arena(layer().scratch_bytes(40))) {}

  std::vector<float> forward(const std::vector<float>& x) {
    const auto tokens = static_cast<int64_t>(x.size()) / kHiddenSize;
    std::vector<float> y(x.size());
    layer().forward(view_of(x.data(), Shape{tokens, kHiddenSize}),
                    view_of(y.data(), Shape{tokens, kHiddenSize}), arena_);
    EXPECT_EQ(arena_.used(), 0);
    return y;
  }

 private:
  Arena arena_;
};

Row mlp(const std::map<std::string, Numbers>& w, const std::string& name, const Row& x) {
  Row gate = w.at(name + ".gate_proj.weight").times(x);
  const Row up = w.at(name + ".up_proj.weight").times(x);
  for (size_t i = 0; i < gate.size(); ++i) gate[i] = gate[i] / (1.0 + std::exp(-gate[i])) * up[i];
  return w.at(name + ".down_proj.weight").times(gate);
}

std::vector<size_t> chosen_experts(const std::map<std::string, Numbers>& w, const Row& x) {
  const Row logits = w.at("l.mlp.gate.weight").times(x);
  std::vector<size_t> order(kExperts);
  for (size_t e = 0; e < order.size(); ++e) order[e] = e;
  std::ranges::stable_sort(order, [&](size_t a, size_t b) { return logits[a] > logits[b]; });
  order.resize(kChosen);
  return order;
}

Row plain(const std::map<std::string, Numbers>& w, const Row& x, bool shared) {
  const Row logits = w.at("l.mlp.gate.weight").times(x);
  double sum = 0;
  for (const double logit : logits) sum += std::exp(logit);
  Row y(kHiddenSize);
  const auto add = [&](const Row& more, double weight) {
    for (size_t h = 0; h < y.size(); ++h) y[h] += weight * more[h];
  };
  for (const size_t e : chosen_experts(w, x))
    add(mlp(w, "l.mlp.experts." + std::to_string(e), x), std::exp(logits[e]) / sum);
  if (shared) {
    const double gate = w.at("l.mlp.shared_expert_gate.weight").times(x).front();
    add(mlp(w, "l.mlp.shared_expert", x), 1.0 / (1.0 + std::exp(-gate)));
  }
  return y;
}

TEST(Moe, EqualsThePlainSumOverTheChosenExpertsHoweverTheyAreStored) {
  for (const BackendOptions& device : every_device()) {
    for (const std::optional<Granularity> granularity :
         {std::optional<Granularity>(), std::optional(Granularity::kTensor),
          std::optional(Granularity::kBlock)}) {
      for (const bool shared : {false, true}) {
        QuantOptions options;
        options.quantization = granularity;
        MoeRig rig(device, options, mixture(shared));
        const auto w = rig.weights();
        const std::vector<float> x = test::random_values(17 * kHiddenSize, 3);
        const std::vector<float> y = rig.forward(x);
        for (size_t t = 0; t < 17; ++t) {
          const Row expected = plain(w,
                                     Row(x.begin() + static_cast<std::ptrdiff_t>(t * kHiddenSize),
                                         x.begin() + static_cast<std::ptrdiff_t>((t + 1) * kHiddenSize)),
                                     shared);
          for (size_t h = 0; h < kHiddenSize; ++h)
            EXPECT_NEAR(static_cast<double>(y[t * kHiddenSize + h]), expected[h], 1e-4) << "token " << t;
        }
      }
    }
  }
}

TEST(Moe, GivesATokenTheSameBitsAloneAndAmongOthers) {
  for (const ActivationScheme scheme : {ActivationScheme::kNone, ActivationScheme::kDynamic}) {
    for (const Granularity granularity : {Granularity::kChannel, Granularity::kBlock}) {
      QuantOptions options;
      options.quantization = granularity;
      options.activation_scheme = scheme;
      MoeRig rig({.device = "cpu", .threads = 2, .isa = {}}, options, mixture(true));
      const std::vector<float> x = test::random_values(40 * kHiddenSize, 4);
      const std::vector<float> all = rig.forward(x);
      for (std::ptrdiff_t t = 0; t < 40; t += 7) {
        const auto begin = t * kHiddenSize;
        const std::vector<float> one = rig.forward({x.begin() + begin, x.begin() + begin + kHiddenSize});
        EXPECT_TRUE(std::equal(one.begin(), one.end(), all.begin() + begin)) << "token " << t;
      }
    }
  }
}

TEST(Moe, QuantizesTheInputsOfExpertsInFp8AsItsOptionsSay) {
  QuantOptions options;
  const MoeSpec spec = mixture(false);
  const std::vector<float> x = test::random_values(9 * kHiddenSize, 6);
  MoeRig dense({}, options, spec);
  for (const Granularity granularity : {Granularity::kChannel, Granularity::kBlock}) {
    options.quantization = granularity;
    options.activation_scheme = ActivationScheme::kDynamic;
    // An expert that is left as it is takes its inputs as they are.
    options.ignore = {"l.mlp.experts.2.*"};
    MoeRig reference({.device = "reference", .threads = 1, .isa = {}}, options, spec);
    MoeRig cpu({}, options, spec);
    const std::vector<float> expected = reference.forward(x);
    const std::vector<float> actual = cpu.forward(x);
    const std::vector<float> unquantized = dense.forward(x);
    double difference = 0;
    for (size_t i = 0; i < expected.size(); ++i) {
      EXPECT_NEAR(actual[i], expected[i], 2e-2) << "a code may fall to the other side of a tie";
      difference = std::max(difference, std::abs(static_cast<double>(actual[i] - unquantized[i])));
    }
    EXPECT_GT(difference, 1e-3);
  }
}

TEST(Moe, DoesNotReadTheExpertsThatNoTokenChose) {
  MoeRig rig({}, {}, mixture(false));
  const std::vector<float> x = test::random_values(kHiddenSize, 5);
  const std::vector<float> before = rig.forward(x);
  const auto used = chosen_experts(rig.weights(), Row(x.begin(), x.end()));
  for (Parameter& parameter : rig.parameters()) {
    if (!parameter.expert ||
        std::ranges::find(used, static_cast<size_t>(parameter.expert->index)) != used.end())
      continue;
    const QuantMatrixView view = std::get<StoredMatrix*>(parameter.destination)->matrix.view();
    std::fill_n(view.scales, view.rows, std::numeric_limits<float>::quiet_NaN());
  }
  EXPECT_EQ(rig.forward(x), before);
}

TEST(Moe, NeverQuantizesRouterAndSharedGateAndKeepsTheFilesDtype) {
  QuantOptions options;
  options.choose = [](std::string_view, WeightRole) {
    return std::optional(StorageRule{.quantize = true, .format = DType::kF8E4M3});
  };
  MoeRig rig({}, options, mixture(true));
  for (const Parameter& parameter : rig.parameters()) {
    if (parameter.name != "l.mlp.gate.weight" && parameter.name != "l.mlp.shared_expert_gate.weight")
      continue;
    EXPECT_EQ(std::get<StoredMatrix*>(parameter.destination)->matrix.spec().dtype, DType::kF32);
  }
}

TEST(Moe, RefusesGroupsThatCannotGiveEnoughExperts) {
  MoeSpec spec = mixture(false);
  spec.router.groups = 7;
  spec.router.chosen_groups = 2;
  EXPECT_THROW(MoeRig({}, {}, spec), ConfigError);
  spec.router.groups = 2;
  EXPECT_THROW(MoeRig({}, {}, spec), ConfigError);
}

}  // namespace
}  // namespace octet
