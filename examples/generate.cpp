// SPDX-License-Identifier: Apache-2.0
/// The library in one page: open a folder with its weights in FP8, generate text, look at what it took.
///
///   octet_example_generate MODEL_FOLDER [PROMPT]
#include <exception>
#include <iostream>
#include <string>

#include "octet/llm/llm.h"

namespace {

octet::LlmOptions options() {
  octet::LlmOptions options;
  octet::QuantOptions& quant = options.model.quant;
  quant.quantization = octet::Granularity::kChannel;  // each linear layer in FP8, one scale per output row,
  quant.fp8_embedding = true;                  // the embedding as well (and a head that shares its table),
  quant.ignore = {"re:.*\\.layers\\.0\\..*"};  // but not the first layer
  options.max_model_len = 256;                 // room for keys and values of so many tokens
  options.model.warn = [](const std::string& text) { std::cerr << "warning: " << text << "\n"; };
  return options;
}

void run(const std::string& folder, const std::string& prompt) {
  octet::LLM llm(folder, options());

  octet::GenerateOptions generate;
  generate.sampling = llm.model().generation_config().sampling;  // what the model's makers recommend
  generate.sampling.max_tokens = 64;
  generate.sampling.seed = 7;

  // Text arrives as it becomes certain; returning false would stop here.
  const octet::TextCallback print = [](size_t, std::string_view text) {
    std::cout << text << std::flush;
    return true;
  };
  std::cout << prompt;
  const octet::Generation generation = llm.generate(llm.encode(prompt), generate, print);

  const octet::LoadReport& report = llm.model().load_report();
  std::cout << "\n\n"
            << generation.ids.size() << " tokens; weights of " << report.read_bytes << " bytes in the files, "
            << report.final_bytes << " in memory, " << report.peak_bytes << " at the peak\n";
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2 || argc > 3) {
    std::cerr << "usage: octet_example_generate MODEL_FOLDER [PROMPT]\n";
    return 2;
  }
  try {
    run(argv[1], argc == 3 ? argv[2] : "Once upon a time");
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << "\n";
    return 1;
  }
}
