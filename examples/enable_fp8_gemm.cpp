// SPDX-License-Identifier: Apache-2.0
/// FP8 for a network of one's own: build a tree of modules, put FP8 layers into it with one call, compare
/// answers and memory.
///
///   octet_example_enable_fp8_gemm
#include <cmath>
#include <exception>
#include <iostream>
#include <random>

#include "octet/backend/factory.h"
#include "octet/layers/enable_fp8_gemm.h"

namespace {

constexpr int64_t kSize = 512;
constexpr int64_t kTokens = 4;

/// Two linears with a ReLU between them. It fetches its children at each step, so they can be replaced.
class FeedForward : public octet::Module {
 public:
  FeedForward(std::shared_ptr<Module> up, std::shared_ptr<Module> down) {
    add_child("up", std::move(up));
    add_child("down", std::move(down));
  }

  /// x [T, H] -> y [T, H], float32.
  [[nodiscard]] std::vector<float> forward(const std::vector<float>& x) const {
    std::vector<float> inner = run("up", x);
    for (float& value : inner) value = std::max(value, 0.0F);
    return run("down", inner);
  }

 protected:
  void check_child(std::string_view name, const Module& module) const override {
    if (dynamic_cast<const octet::LinearModule*>(&module) == nullptr)
      throw octet::ArgumentError("the child " + std::string(name) + " must be a linear");
  }

 private:
  [[nodiscard]] std::vector<float> run(std::string_view name, const std::vector<float>& x) const {
    auto& linear = dynamic_cast<octet::LinearModule&>(*child(name));
    std::vector<float> y(static_cast<size_t>(kTokens * linear.out_features()));
    linear.forward(octet::view_of(x.data(), {kTokens, linear.in_features()}),
                   octet::view_of(y.data(), {kTokens, linear.out_features()}));
    return y;
  }
};

/// A bfloat16 weight [H, H] of small random numbers.
std::shared_ptr<octet::Module> random_linear(octet::Backend& backend, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 0.05F);
  octet::Tensor weight(octet::Buffer(backend.allocator(), backend.ledger(), "weights", kSize * kSize * 2),
                       octet::DType::kBF16, {kSize, kSize});
  auto* values = weight.view().row<octet::bfloat16>(0);
  for (int64_t i = 0; i < kSize * kSize; ++i) values[i] = octet::from_float<octet::bfloat16>(normal(random));
  auto source = std::make_shared<octet::SourceWeight>(octet::SourceWeight{.tensor = std::move(weight)});
  return std::make_shared<octet::DenseLinear>(backend, std::move(source));
}

double relative_distance(const std::vector<float>& a, const std::vector<float>& b) {
  double difference = 0;
  double norm = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference += std::pow(static_cast<double>(a[i]) - static_cast<double>(b[i]), 2);
    norm += std::pow(static_cast<double>(b[i]), 2);
  }
  return std::sqrt(difference / norm);
}

void run() {
  octet::MemoryLedger ledger;
  const auto backend = octet::make_backend({}, ledger);
  const auto model = std::make_shared<FeedForward>(random_linear(*backend, 1), random_linear(*backend, 2));
  const std::vector<float> x(static_cast<size_t>(kTokens * kSize), 0.5F);

  const std::vector<float> before = model->forward(x);
  const int64_t bytes_before = ledger.current("weights");
  octet::enable_fp8_gemm(model, {.weight_scale = octet::Fp8WeightScale::kChannel},
                         [](std::string_view name, const octet::Module&) { return name != "head"; });
  const std::vector<float> after = model->forward(x);

  std::cout << "weights " << bytes_before << " -> " << ledger.current("weights")
            << " bytes; the answers differ by " << 100 * relative_distance(after, before) << " %\n";
}

}  // namespace

int main() {
  try {
    run();
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << "\n";
    return 1;
  }
}
