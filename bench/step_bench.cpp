// SPDX-License-Identifier: Apache-2.0
/// Where a decode step of Llama-3.2-1B's shapes spends its time, random weights in FP8: the matrices, the
/// attention, and everything else, the sampling of a vocabulary of 128,256 and the engine itself included.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <numeric>

#include "bench/bench_support.h"
#include "bench/random_weights.h"
#include "bench/timed_backend.h"
#include "octet/backend/factory.h"
#include "octet/base/json.h"
#include "octet/comm/single.h"
#include "octet/engine/engine.h"
#include "octet/models/decoder.h"
#include "octet/models/registry.h"

namespace octet::bench {
namespace {

struct Options {
  int threads = 0;
  int layers = 16;
  int64_t context = 512;
  int64_t sequences = 1;
  int64_t steps = 48;
  double temperature = 0.8;
  double top_p = 0.95;
  std::string isa;
};

Json config(int layers) {
  return {{"architectures", {"LlamaForCausalLM"}},
          {"vocab_size", 128256},
          {"hidden_size", 2048},
          {"intermediate_size", 8192},
          {"num_hidden_layers", layers},
          {"num_attention_heads", 32},
          {"num_key_value_heads", 8},
          {"head_dim", 64},
          {"max_position_embeddings", 131072},
          {"rope_theta", 500000.0},
          {"rms_norm_eps", 1e-5},
          {"tie_word_embeddings", true}};
}

void add_request(Engine& engine, const Options& options, int64_t index) {
  std::vector<int32_t> prompt(static_cast<size_t>(options.context));
  uint64_t random = static_cast<uint64_t>(index) + 1;
  for (int32_t& id : prompt) id = static_cast<int32_t>(next_random(random) % 128256);
  engine.add({.prompt = std::move(prompt),
              .params = {.temperature = options.temperature,
                         .top_p = options.top_p,
                         .seed = static_cast<uint64_t>(index),
                         .max_tokens = 2 * options.steps + options.context,
                         .ignore_eos = true}});
}

/// Goes on until all prompts are in the cache.
void prefill(Engine& engine, int64_t sequences) {
  int64_t chosen = 0;
  while (chosen < sequences) chosen = std::ssize(engine.step());
}

/// The times of every step, sorted by part; the last one is what no operation takes.
struct StepTimes {
  std::array<std::vector<double>, kStepParts> parts;
  std::vector<double> rest;
  std::vector<double> step;
};

StepTimes time_steps(Engine& engine, TimedBackend& backend, int64_t steps) {
  StepTimes times;
  (void)backend.take_seconds();
  for (int64_t i = 0; i < steps; ++i) {
    const double step = seconds_of(Stopwatch::kWall, [&] { (void)engine.step(); });
    const StepSeconds parts = backend.take_seconds();
    for (size_t p = 0; p < kStepParts; ++p) times.parts[p].push_back(parts[p]);
    times.step.push_back(step);
    times.rest.push_back(step - std::accumulate(parts.begin(), parts.end(), 0.0));
  }
  return times;
}

void print(const StepTimes& times) {
  const double step = median(times.step);
  const auto line = [step](const char* name, double seconds) {
    std::printf("%-24s %9.3f ms  %6.2f %%\n", name, seconds * 1e3, 100 * seconds / step);
  };
  double other = median(times.rest);
  for (size_t p = 0; p < kStepParts; ++p) {
    const double seconds = median(times.parts[p]);
    line(step_part_name(static_cast<StepPart>(p)), seconds);
    const bool large =
        p == static_cast<size_t>(StepPart::kMatrices) || p == static_cast<size_t>(StepPart::kAttention);
    if (!large) other += seconds;
  }
  line("sampling and engine", median(times.rest));
  line("a step", step);
  line("all but matrices and attention", other);
}

int run(const Options& options) {
  MemoryLedger ledger;
  BackendOptions device{.device = "cpu", .threads = options.threads, .isa = std::nullopt};
  if (!options.isa.empty()) device.isa = parse_cpu_isa(options.isa);
  const std::unique_ptr<Backend> inner = make_backend(device, ledger);
  TimedBackend backend(*inner);
  SingleCommunicator communicator;
  QuantSpec quant{QuantOptions{}};
  Decoder decoder(
      {.backend = backend, .communicator = communicator, .quant_spec = quant, .compute_dtype = DType::kBF16},
      read_decoder_spec(config(options.layers), "bench"));
  uint64_t seed = 1;
  for (const Parameter& parameter : decoder.parameters()) fill_parameter(parameter, backend, ledger, seed);
  const int64_t length = 2 * (options.context + options.steps) + 1;
  Engine engine(decoder, {.max_num_seqs = options.sequences,
                          .max_model_len = length,
                          .kv_cache_tokens = (length + kKvBlockSize) * options.sequences});
  for (int64_t i = 0; i < options.sequences; ++i) add_request(engine, options, i);
  prefill(engine, options.sequences);
  std::printf("%s, %s; %d layers, %lld sequences after %lld tokens\n", cpu_name().c_str(),
              backend.describe().c_str(), options.layers, static_cast<long long>(options.sequences),
              static_cast<long long>(options.context));
  print(time_steps(engine, backend, options.steps));
  return 0;
}

}  // namespace
}  // namespace octet::bench

int main(int argc, char** argv) {
  octet::bench::Options options;
  CLI::App app("Shows where a decode step spends its time");
  app.add_option("--threads", options.threads, "0: one for each core");
  app.add_option("--layers", options.layers, "of the model")->check(CLI::Range(1, 64));
  app.add_option("--context", options.context, "tokens of each prompt")->check(CLI::Range(1, 65536));
  app.add_option("--sequences", options.sequences, "that run together")->check(CLI::Range(1, 256));
  app.add_option("--steps", options.steps, "of which the medians are shown")->check(CLI::Range(1, 100000));
  app.add_option("--temperature", options.temperature, "of the sampling; 0: the likeliest token")
      ->check(CLI::Range(0.0, 100.0));
  app.add_option("--top-p", options.top_p, "of the sampling")->check(CLI::Range(0.01, 1.0));
  app.add_option("--isa", options.isa, "portable, avx2, avx512, avx512_bf16 or amx_bf16; default: the best");
  CLI11_PARSE(app, argc, argv);
  return octet::bench::exit_code_of([&] { return octet::bench::run(options); });
}
