// SPDX-License-Identifier: Apache-2.0
/// A stack of layers of Qwen1.5-MoE-A2.7B in FP8 with random weights: one token at a time beside a sweep that
/// reads the bytes of the layers' dense matrices and of as many experts as a token uses, and a prompt beside
/// the multiply peak. A dense multiply of the same kind is timed in the same run, for comparison.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <numeric>
#include <set>

#include "bench/bench_support.h"
#include "bench/random_weights.h"
#include "octet/backend/cpu/ceilings.h"
#include "octet/backend/factory.h"
#include "octet/base/checked_math.h"
#include "octet/base/json.h"
#include "octet/comm/single.h"
#include "octet/engine/engine.h"
#include "octet/models/decoder.h"
#include "octet/models/registry.h"

namespace octet::bench {
namespace {

struct Options {
  int threads = 0;
  int pairs = 9;
  int layers = 4;
  int64_t prompt = 512;
  std::string isa;
};

constexpr int64_t kContext = 1024;

Json config(int layers) {
  return {{"architectures", {"Qwen2MoeForCausalLM"}},
          {"vocab_size", 1024},
          {"hidden_size", 2048},
          {"intermediate_size", 5632},
          {"num_hidden_layers", layers},
          {"num_attention_heads", 16},
          {"num_key_value_heads", 16},
          {"num_experts", 60},
          {"num_experts_per_tok", 4},
          {"moe_intermediate_size", 1408},
          {"shared_expert_intermediate_size", 5632},
          {"rope_theta", 1e6}};
}

/// The layers, their weights straight from a random generator, and one sequence in a cache.
class Stack {
 public:
  Stack(Backend& backend, MemoryLedger& ledger, const Options& options)
      : spec_(QuantOptions{}),
        decoder_({.backend = backend,
                  .communicator = communicator_,
                  .quant_spec = spec_,
                  .compute_dtype = DType::kBF16},
                 read_decoder_spec(config(options.layers), "bench")),
        cache_(backend, kv_cache_spec(decoder_, DType::kBF16), kContext / kKvBlock),
        arena_(
            Buffer(backend.allocator(), ledger, "workspace", decoder_.workspace_bytes(options.prompt, 1))) {
    table_.resize(kContext / kKvBlock);
    std::iota(table_.begin(), table_.end(), 0);
    parameters_ = decoder_.parameters();
    for (const Parameter& parameter : parameters_) {
      fill_parameter(parameter, backend, ledger, seed_);
      note(parameter);
    }
  }

  /// The matrices that a token reads: all dense ones, and of the experts of a layer `experts_per_token`,
  /// other ones each time.
  [[nodiscard]] std::vector<ByteSpan> bytes_of_a_token(uint64_t& random) const {
    std::vector<ByteSpan> pieces = dense_;
    const auto chosen = static_cast<size_t>(decoder_.spec().moe->router.experts_per_token);
    for (const auto& experts : experts_) {
      std::set<size_t> some;
      while (some.size() < chosen) some.insert(next_random(random) % experts.size());
      for (const size_t e : some) pieces.insert(pieces.end(), experts[e].begin(), experts[e].end());
    }
    return pieces;
  }

  /// Operations of one token in the matrices: a multiply-add is two.
  [[nodiscard]] double operations_of_a_token() const { return operations_; }

  void step(int64_t first, int64_t tokens) {
    std::vector<int32_t> ids(static_cast<size_t>(tokens));
    std::vector<int32_t> positions(ids.size());
    for (int32_t& id : ids) id = static_cast<int32_t>(next_random(seed_) % 1024);
    std::iota(positions.begin(), positions.end(), static_cast<int32_t>(first));
    const std::array<int32_t, 2> starts = {0, static_cast<int32_t>(tokens)};
    const std::array<int32_t, 1> contexts = {static_cast<int32_t>(first + tokens)};
    arena_.rewind(0);
    (void)decoder_.forward({.token_ids = ids,
                            .positions = positions,
                            .slots = positions,
                            .layout = {.sequence_starts = starts,
                                       .context_lengths = contexts,
                                       .block_tables = table_,
                                       .max_blocks = static_cast<int64_t>(table_.size())}},
                           cache_.layers(), arena_);
  }

 private:
  static constexpr int64_t kKvBlock = 32;

  void note(const Parameter& parameter) {
    const auto* const* destination = std::get_if<StoredMatrix*>(&parameter.destination);
    if (destination == nullptr || !(*destination)->rule.quantize || parameter.offset != 0) return;
    const StoredMatrix& matrix = **destination;
    const ByteSpan bytes = element_bytes(matrix);
    const double operations = 2.0 * static_cast<double>(matrix.rows * matrix.cols);
    if (!parameter.expert) {
      dense_.push_back(bytes);
      operations_ += operations;
      return;
    }
    if (parameter.expert->index == 0 && parameter.expert->fused.ends_with("gate_up_proj"))
      experts_.emplace_back(static_cast<size_t>(parameter.expert->count));
    experts_.back()[static_cast<size_t>(parameter.expert->index)].push_back(bytes);
    const RouterSpec& router = decoder_.spec().moe->router;
    operations_ +=
        operations * static_cast<double>(router.experts_per_token) / static_cast<double>(router.num_experts);
  }

  SingleCommunicator communicator_;
  QuantSpec spec_;
  Decoder decoder_;
  KvCache cache_;
  Arena arena_;
  std::vector<int32_t> table_;
  std::vector<Parameter> parameters_;
  std::vector<ByteSpan> dense_;
  std::vector<std::vector<std::vector<ByteSpan>>> experts_;  // layers, experts, matrices
  double operations_ = 0;
  uint64_t seed_ = 1;
};

/// One matrix of the size of the shared expert, in enough copies that it is cold.
class Dense {
 public:
  Dense(Backend& backend, MemoryLedger& ledger) : backend_(backend), x_(2048), y_(11264) {
    fill_bell(x_, 3);
    for (uint64_t c = 0; c < 12; ++c) {
      QuantMatrix& w = copies_.emplace_back(backend.allocator(), ledger, "weights",
                                            MatrixSpec{.dtype = DType::kF8E4M3,
                                                       .rows = 11264,
                                                       .cols = 2048,
                                                       .layout = backend.weight_layout(),
                                                       .scale_kind = ScaleKind::kRow,
                                                       .parts = {}});
      fill_codes({w.view().data, size_t{11264} * 2048}, 100 + c);
    }
  }
  [[nodiscard]] double fraction(Ceilings& ceilings, int pairs) {
    std::vector<double> ratios;
    for (int pair = -1; pair < pairs; ++pair) {
      std::vector<ByteSpan> pieces;
      for (const QuantMatrix& w : copies_) pieces.emplace_back(w.view().data, size_t{11264} * 2048);
      const double sweep = ceilings.read_seconds(pieces);
      const double own = seconds_of(Stopwatch::kWall, [&] {
        for (const QuantMatrix& w : copies_)
          backend_.gemm({.dense = view_of(x_.data(), Shape{1, 2048}),
                         .precision = Precision::kBFloat16,
                         .quantized = {}},
                        w.view(), {}, view_of(y_.data(), Shape{1, 11264}));
      });
      if (pair >= 0) ratios.push_back(sweep / own);
    }
    return median(ratios);
  }

 private:
  Backend& backend_;
  std::vector<QuantMatrix> copies_;
  std::vector<float> x_;
  std::vector<float> y_;
};

int run(const Options& options) {
  MemoryLedger ledger;
  BackendOptions device{.device = "cpu", .threads = options.threads, .isa = std::nullopt};
  if (!options.isa.empty()) device.isa = parse_cpu_isa(options.isa);
  const std::unique_ptr<Backend> backend = make_backend(device, ledger);
  Ceilings ceilings(device.isa.value_or(supported_isas().back()), backend->threads());
  Stack stack(*backend, ledger, options);
  std::printf("%s, %s\n", cpu_name().c_str(), backend->describe().c_str());

  uint64_t random = 7;
  std::vector<double> decode;
  std::vector<double> of_read;
  stack.step(0, 16);
  int64_t bytes = 0;
  for (int pair = -1; pair < options.pairs; ++pair) {
    const auto pieces = stack.bytes_of_a_token(random);
    bytes = 0;
    for (const ByteSpan& piece : pieces) bytes += static_cast<int64_t>(piece.size());
    const double sweep = ceilings.read_seconds(pieces);
    const double own = seconds_of(Stopwatch::kWall, [&] { stack.step(17 + pair, 1); });
    if (pair < 0) continue;
    decode.push_back(own);
    of_read.push_back(sweep / own);
  }
  const double dense = Dense(*backend, ledger).fraction(ceilings, options.pairs);
  std::printf(
      "decode  %d layers, %.1f MiB a token: %.2f ms, %.1f GB/s, %.3f of the read sweep "
      "(a dense multiply: %.3f)\n",
      options.layers, static_cast<double>(bytes) / (1 << 20), median(decode) * 1e3,
      static_cast<double>(bytes) / median(decode) / 1e9, median(of_read), dense);

  std::vector<double> prefill;
  std::vector<double> of_peak;
  for (int pair = -1; pair < std::min(options.pairs, 3); ++pair) {
    const double peak = ceilings.bf16_flops(0.02);
    const double own = seconds_of(Stopwatch::kWall, [&] { stack.step(0, options.prompt); });
    if (pair < 0) continue;
    prefill.push_back(own);
    of_peak.push_back(stack.operations_of_a_token() * static_cast<double>(options.prompt) / own / peak);
  }
  std::printf("prefill %lld tokens: %.1f ms, %.1f GFLOP/s in the matrices, %.3f of the multiply peak\n",
              static_cast<long long>(options.prompt), median(prefill) * 1e3,
              stack.operations_of_a_token() * static_cast<double>(options.prompt) / median(prefill) / 1e9,
              median(of_peak));
  return 0;
}

}  // namespace
}  // namespace octet::bench

int main(int argc, char** argv) {
  octet::bench::Options options;
  CLI::App app("Times layers of a mixture of experts beside the machine's own ceilings");
  app.add_option("--threads", options.threads, "0: one for each core");
  app.add_option("--pairs", options.pairs, "timings of each figure")->check(CLI::Range(1, 1000));
  app.add_option("--layers", options.layers, "layers, of about 540 MiB each")->check(CLI::Range(1, 24));
  app.add_option("--prompt", options.prompt, "tokens of the prompt")->check(CLI::Range(1, 1024));
  app.add_option("--isa", options.isa, "portable, avx2, avx512, avx512_bf16 or amx_bf16; default: the best");
  CLI11_PARSE(app, argc, argv);
  return octet::bench::exit_code_of([&] { return octet::bench::run(options); });
}
