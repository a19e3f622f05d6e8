// SPDX-License-Identifier: Apache-2.0
/// The library as storage alone: choose for each module of a checkpoint how it is stored, load, and look at
/// what became of it. No token is computed.
///
///   octet_example_quantize_per_module MODEL_FOLDER
#include <cstdio>
#include <exception>
#include <iostream>
#include <optional>
#include <string>
#include <string_view>

#include "octet/llm/model.h"

namespace {

/// Attention in FP8 with one scale for each output row; the first layer's MLP as it is in the file, the
/// others' in blocks of 128 x 128; the tables (one, where the model shares it) cast to E5M2 without any
/// scale.
std::optional<octet::StorageRule> choose(std::string_view module, octet::WeightRole role) {
  if (role != octet::WeightRole::kLinear) {
    return octet::StorageRule{.quantize = true, .format = octet::DType::kF8E5M2, .raw_cast = true};
  }
  if (module.find("layers.0.mlp") != std::string_view::npos) return octet::StorageRule{};
  if (module.find(".mlp.") != std::string_view::npos) {
    return octet::StorageRule{.quantize = true, .granularity = octet::Granularity::kBlock};
  }
  return std::nullopt;  // as the options say: here their default, a scale for each row
}

std::string text_of(const std::vector<int64_t>& shape) {
  std::string text;
  for (const int64_t size : shape) text += (text.empty() ? "" : " x ") + std::to_string(size);
  return text.empty() ? "none" : text;
}

void print(const octet::WeightRecord& weight) {
  if (!weight.stored_dtype) return;
  const std::string from(to_string(weight.source_dtype));
  const std::string to(to_string(*weight.stored_dtype));
  const auto sqnr = weight.quantized ? octet::sqnr_db(weight.stats) : std::nullopt;
  std::printf("%-48s %-5s -> %-8s scales %-8s %9lld bytes", weight.name.c_str(), from.c_str(), to.c_str(),
              text_of(weight.scale_shape).c_str(), static_cast<long long>(weight.bytes));
  if (sqnr) std::printf("  SQNR %.1f dB", *sqnr);
  std::printf("\n");
}

void run(const std::string& folder) {
  octet::ModelOptions options;
  options.quant.choose = choose;
  options.warn = [](const std::string& text) { std::cerr << "warning: " << text << "\n"; };

  octet::Model model(folder, options);  // headers only: what it will take is known now
  const int64_t planned = model.plan().final_bytes;
  const octet::LoadReport& report = model.load();

  for (const octet::WeightRecord& weight : report.weights) print(weight);
  std::printf("%lld bytes planned, %lld held\n", static_cast<long long>(planned),
              static_cast<long long>(report.final_bytes));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: octet_example_quantize_per_module MODEL_FOLDER\n";
    return 2;
  }
  try {
    run(argv[1]);
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << "\n";
    return 1;
  }
}
