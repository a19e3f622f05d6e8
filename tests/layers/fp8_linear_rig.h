// SPDX-License-Identifier: Apache-2.0
/// What the tests of FP8 linears and of trees of them share.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "octet/backend/factory.h"
#include "octet/layers/module.h"

namespace octet {

/// The message of the ArgumentError that a call throws.
template <class Call>
std::string error_of(Call&& call) {
  try {
    call();
  } catch (const ArgumentError& error) {
    return error.what();
  }
  return "no ArgumentError";
}

/// Small linears on two threads of the CPU.
class Fp8LinearRig : public testing::Test {
 protected:
  Tensor tensor(DType dtype, Shape shape, float first = 0.25F) {
    Tensor made(Buffer(backend_->allocator(), ledger_, "test", shape.elements() * dtype_size(dtype)), dtype,
                shape);
    std::vector<float> values(static_cast<size_t>(shape.elements()));
    for (size_t i = 0; i < values.size(); ++i) values[i] = first * static_cast<float>(1 + i * 7 % 13) - 1.0F;
    const int64_t cols = made.view().cols();
    const int64_t rows = made.view().rows();
    backend_->store(view_of(values.data(), Shape{rows, cols}),
                    {.data = made.view().data(), .dtype = dtype, .rows = rows, .cols = cols}, {});
    return made;
  }
  std::shared_ptr<SourceWeight> weight(int64_t n = 6, int64_t k = 8, DType dtype = DType::kBF16,
                                       float first = 0.25F) {
    return std::make_shared<SourceWeight>(SourceWeight{.tensor = tensor(dtype, Shape{n, k}, first)});
  }
  std::shared_ptr<DenseLinear> linear(int64_t n = 6, int64_t k = 8) {
    return std::make_shared<DenseLinear>(*backend_, weight(n, k),
                                         std::make_shared<const Tensor>(tensor(DType::kF32, Shape{n})));
  }
  std::vector<float> run(LinearModule& module, int64_t tokens = 2) {
    std::vector<float> x(static_cast<size_t>(tokens * module.in_features()));
    for (size_t i = 0; i < x.size(); ++i) x[i] = 0.5F * static_cast<float>(i % 5) - 1.0F;
    std::vector<float> y(static_cast<size_t>(tokens * module.out_features()));
    module.forward(view_of(x.data(), Shape{tokens, module.in_features()}),
                   view_of(y.data(), Shape{tokens, module.out_features()}));
    return y;
  }
  void expect_near(const std::vector<float>& found, const std::vector<float>& expected) {
    ASSERT_EQ(found.size(), expected.size());
    for (size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(found[i], expected[i], 0.25F) << i;
  }

  MemoryLedger ledger_;
  std::unique_ptr<Backend> backend_ = make_backend({.device = "cpu", .threads = 2}, ledger_);
};

/// Takes linears of any kind as its two children.
class Block : public Module {
 public:
  Block(const std::shared_ptr<Module>& up, const std::shared_ptr<Module>& down) {
    add_child("up", up);
    add_child("down", down);
  }

  [[nodiscard]] std::shared_ptr<Module> copy() const override { return std::make_shared<Block>(*this); }

 protected:
  void check_child(std::string_view name, const Module& module) const override {
    if (dynamic_cast<const LinearModule*>(&module) == nullptr)
      throw ArgumentError("the child " + std::string(name) + " must be a linear");
  }
};

}  // namespace octet
