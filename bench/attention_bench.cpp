// SPDX-License-Identifier: Apache-2.0
/// Times Backend::attention over a long paged context on the cpu backend, beside the larger of two ceilings
/// taken in turn with it: a sweep that reads the same bytes of the cache, and the float32 multiply peak.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>

#include "bench/bench_support.h"
#include "octet/backend/cpu/ceilings.h"
#include "octet/backend/factory.h"

namespace octet::bench {
namespace {

constexpr int64_t kBlockSize = 64;
constexpr int64_t kLayers = 4;  // caches used in turn, so that none stays in the processor's own

struct Options {
  int threads = 0;
  std::string isa;
  int pairs = 11;
  int64_t context = 8192;
  int64_t query_heads = 32;
  int64_t key_heads = 8;
  int64_t head_dim = 128;
  std::vector<int64_t> rows = {1, 128};
};

class AttentionBench {
 public:
  explicit AttentionBench(const Options& options)
      : options_(options),
        backend_(make_backend(backend_options(options), ledger_)),
        clock_(clock_for(backend_->threads().threads())),
        ceilings_(options.isa.empty() ? supported_isas().back() : parse_cpu_isa(options.isa),
                  backend_->threads(), clock_) {
    for (int64_t b = 0; b < blocks(); ++b) table_.push_back(static_cast<int32_t>((b * 37 + 5) % blocks()));
  }
  void print_machine() const {
    std::printf("%s, %s; %s; context %lld, heads %lld/%lld of %lld\n", cpu_name().c_str(),
                backend_->describe().c_str(), describe(clock_), static_cast<long long>(options_.context),
                static_cast<long long>(options_.query_heads), static_cast<long long>(options_.key_heads),
                static_cast<long long>(options_.head_dim));
  }

  void run(DType dtype, int64_t rows) {
    fill(dtype);
    const int64_t cols = options_.query_heads * options_.head_dim;
    std::vector<float> q(static_cast<size_t>(rows * cols));
    fill_bell(q, 1);
    std::vector<float> y(q.size());
    check_against_reference(q, rows);
    attend(*backend_, 0, q.data(), y.data(), rows);
    std::vector<double> ratios;
    std::vector<double> times;
    for (int pair = 0; pair < options_.pairs; ++pair) {
      const int64_t layer = pair % kLayers;
      const ByteSpan pieces[] = {{view(layer).keys, static_cast<size_t>(side_bytes())},
                                 {view(layer).values, static_cast<size_t>(side_bytes())}};
      const double reading = ceilings_.read_seconds(pieces);
      const double multiplying = flops(rows) / ceilings_.f32_flops();
      const double taken =
          seconds_of(clock_, [&] { attend(*backend_, (layer + 2) % kLayers, q.data(), y.data(), rows); });
      ratios.push_back(std::max(reading, multiplying) / taken);
      times.push_back(taken);
    }
    const double seconds = median(times);
    std::printf("%-8s %4lld rows  %9.3f ms  %7.2f GB/s  %8.2f GFLOP/s  %5.2f of the ceiling\n",
                std::string(to_string(dtype)).c_str(), static_cast<long long>(rows), seconds * 1e3,
                2e-9 * static_cast<double>(side_bytes()) / seconds, flops(rows) / seconds / 1e9,
                median(ratios));
  }

 private:
  static BackendOptions backend_options(const Options& options) {
    BackendOptions result = {.device = "cpu", .threads = options.threads, .isa = std::nullopt};
    if (!options.isa.empty()) result.isa = parse_cpu_isa(options.isa);
    return result;
  }
  [[nodiscard]] int64_t blocks() const { return (options_.context + kBlockSize - 1) / kBlockSize; }
  [[nodiscard]] int64_t vectors() const { return blocks() * options_.key_heads * kBlockSize; }
  [[nodiscard]] int64_t side_bytes() const { return vectors() * options_.head_dim * dtype_size(dtype_); }
  /// A multiply-add counts as two; every row sees the keys up to its own.
  [[nodiscard]] double flops(int64_t rows) const {
    const double keys = static_cast<double>(rows) *
                        (static_cast<double>(options_.context) - 0.5 * static_cast<double>(rows - 1));
    return 4.0 * keys * static_cast<double>(options_.query_heads * options_.head_dim);
  }
  [[nodiscard]] KvView view(int64_t layer) const {
    std::byte* base = cache_.data() + layer * 2 * side_bytes();
    auto* scales = reinterpret_cast<float*>(scales_.data());
    return {.keys = base,
            .values = base + side_bytes(),
            .key_scales = scales,
            .value_scales = scales + vectors(),
            .dtype = dtype_,
            .block_size = kBlockSize,
            .heads = options_.key_heads,
            .head_dim = options_.head_dim};
  }
  void fill(DType dtype) {
    dtype_ = dtype;
    cache_ = Buffer(backend_->allocator(), ledger_, "bench", kLayers * 2 * side_bytes());
    scales_ = Buffer(backend_->allocator(), ledger_, "bench", 2 * vectors() * 4);
    const int64_t cols = options_.key_heads * options_.head_dim;
    std::vector<float> x(static_cast<size_t>(kBlockSize * cols));
    std::vector<int32_t> slots(kBlockSize);
    for (int64_t layer = 0; layer < kLayers; ++layer) {
      for (int64_t block = 0; block < blocks(); ++block) {
        if (block % 16 == 0) fill_bell(x, static_cast<uint64_t>(block + layer));
        for (int64_t i = 0; i < kBlockSize; ++i)
          slots[static_cast<size_t>(i)] = static_cast<int32_t>(block * kBlockSize + i);
        const ConstTensorView rows = view_of(x.data(), Shape{kBlockSize, cols});
        backend_->kv_store(rows, rows, slots, view(layer));
      }
    }
  }
  void attend(Backend& backend, int64_t layer, const float* q, float* y, int64_t rows) {
    const int64_t cols = options_.query_heads * options_.head_dim;
    const int32_t starts[] = {0, static_cast<int32_t>(rows)};
    const int32_t lengths[] = {static_cast<int32_t>(options_.context)};
    backend.attention(view_of(q, Shape{rows, cols}), view(layer),
                      {.sequence_starts = starts,
                       .context_lengths = lengths,
                       .block_tables = table_,
                       .max_blocks = blocks()},
                      {.query_heads = options_.query_heads,
                       .scale = 1.0F / std::sqrt(static_cast<float>(options_.head_dim)),
                       .sliding_window = 0},
                      view_of(y, Shape{rows, cols}));
  }
  /// The last row of the call, by both.
  void check_against_reference(const std::vector<float>& q, int64_t rows) {
    const auto cols = static_cast<size_t>(options_.query_heads * options_.head_dim);
    const auto reference = make_backend({.device = "reference", .threads = 1, .isa = std::nullopt}, ledger_);
    std::vector<float> expected(cols);
    std::vector<float> actual(q.size());
    attend(*reference, 0, q.data() + static_cast<size_t>(rows - 1) * cols, expected.data(), 1);
    attend(*backend_, 0, q.data(), actual.data(), rows);
    for (size_t i = 0; i < cols; ++i) {
      check(std::fabs(actual[static_cast<size_t>(rows - 1) * cols + i] - expected[i]) < 2e-5F,
            "attention differs from the reference");
    }
  }

  Options options_;
  MemoryLedger ledger_;
  std::unique_ptr<Backend> backend_;
  Stopwatch clock_;
  Ceilings ceilings_;
  DType dtype_ = DType::kBF16;
  Buffer cache_;
  Buffer scales_;
  std::vector<int32_t> table_;
};

int run(int argc, char** argv) {
  Options options;
  CLI::App app("Speed of attention over a paged cache");
  app.add_option("--threads", options.threads, "threads (all cores)");
  app.add_option("--isa", options.isa, "instruction set (the best)");
  app.add_option("--pairs", options.pairs, "pairs of timings (11)")->check(CLI::PositiveNumber);
  app.add_option("--context", options.context, "keys (8192)")->check(CLI::PositiveNumber);
  app.add_option("--query-heads", options.query_heads, "query heads (32)")->check(CLI::PositiveNumber);
  app.add_option("--key-heads", options.key_heads, "key heads (8)")->check(CLI::PositiveNumber);
  app.add_option("--head-dim", options.head_dim, "size of a head (128)")->check(CLI::PositiveNumber);
  app.add_option("--rows", options.rows, "query rows of a call (1 128)")->check(CLI::PositiveNumber);
  CLI11_PARSE(app, argc, argv);
  AttentionBench bench(options);
  bench.print_machine();
  for (const DType dtype : {DType::kBF16, DType::kF8E4M3, DType::kF8E5M2, DType::kF32}) {
    for (const int64_t rows : options.rows) {
      if (rows <= options.context) bench.run(dtype, rows);
    }
  }
  return 0;
}

}  // namespace
}  // namespace octet::bench

int main(int argc, char** argv) {
  return octet::bench::exit_code_of([&] { return octet::bench::run(argc, argv); });
}
