// SPDX-License-Identifier: Apache-2.0
/// The head of a model, stored in FP8 and in bfloat16, multiplied turn by turn: A B A B. FP8 reads half the
/// bytes and widens them in registers, so it is never to be the slower one. Prints the median of the paired
/// ratios, and how much of the machine's ceiling FP8 reaches.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "bench/bench_support.h"
#include "octet/backend/cpu/ceilings.h"
#include "octet/backend/factory.h"

namespace octet::bench {
namespace {

struct Options {
  int threads = 0;
  int pairs = 15;
  bool quick = false;
  double least = 0.95;
  std::vector<int64_t> tokens = {1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 512};
};

struct Head {
  int64_t vocabulary = 0;  // V
  int64_t hidden = 0;      // H
};

class Pair {
 public:
  Pair(Backend& backend, Ceilings& ceilings, Head head)
      : backend_(backend),
        clock_(clock_for(backend.threads().threads())),
        ceilings_(ceilings),
        head_(head),
        fp8_(weight(DType::kF8E4M3)),
        bf16_(weight(DType::kBF16)) {
    fill();
    fp8_.set_codes_finite();
  }

  /// Throws where an output of either differs from a float64 sum beyond the rounding of a float32 one.
  void check_results(int64_t tokens) {
    set_tokens(tokens);
    for (const QuantMatrix* w : {&fp8_, &bf16_}) {
      multiply(*w);
      for (const int64_t t : {int64_t{0}, tokens - 1}) {
        for (int64_t v = 0; v < head_.vocabulary; v += std::max<int64_t>(1, head_.vocabulary / 97)) {
          check_output(w->view(), t, v);
        }
      }
    }
  }

  struct Times {
    double fp8 = 0;  // seconds, medians
    double bf16 = 0;
    double ratio = 0;  // of bf16 / fp8 of the same pair, the median
    double lowest = 0;
    double ceiling = 0;  // of the larger of the times that reading and multiplying FP8 need: the median
  };
  [[nodiscard]] Times time(int64_t tokens, int pairs) {
    set_tokens(tokens);
    std::vector<double> fp8;
    std::vector<double> bf16;
    std::vector<double> ratio;
    std::vector<double> ceiling;
    const double operations = 2.0 * static_cast<double>(tokens * head_.vocabulary * head_.hidden);
    const MatrixSpec& spec = fp8_.spec();  // without its scales, which lie elsewhere
    const ByteSpan codes(fp8_.view().data,
                         static_cast<size_t>(matrix_bytes(spec.layout, spec.dtype, spec.rows, spec.cols)));
    for (int pair = -1; pair < pairs; ++pair) {
      const double a = seconds_of(clock_, [&] { multiply(fp8_); });
      const double b = seconds_of(clock_, [&] { multiply(bf16_); });
      const double reading = ceilings_.read_seconds({&codes, 1});
      const double multiplying = operations / ceilings_.bf16_flops(std::clamp(a, 0.002, 0.02));
      if (pair < 0) continue;  // the first touches memory and threads for the first time
      fp8.push_back(a);
      bf16.push_back(b);
      ratio.push_back(b / a);
      ceiling.push_back(std::max(reading, multiplying) / a);
    }
    return {.fp8 = median(fp8),
            .bf16 = median(bf16),
            .ratio = median(ratio),
            .lowest = *std::min_element(ratio.begin(), ratio.end()),
            .ceiling = median(ceiling)};
  }

  [[nodiscard]] int64_t bytes() const { return fp8_.bytes() + bf16_.bytes(); }

 private:
  [[nodiscard]] QuantMatrix weight(DType dtype) {
    return {backend_.allocator(),
            backend_.ledger(),
            "weights",
            {.dtype = dtype,
             .rows = head_.vocabulary,
             .cols = head_.hidden,
             .layout = backend_.weight_layout(),
             .scale_kind = is_fp8(dtype) ? ScaleKind::kRow : ScaleKind::kNone,
             .parts = {}}};
  }

  /// The same values in both, as a head quantized by rows has them; a part of the rows at a time.
  void fill() {
    constexpr int64_t kRows = 512;
    std::vector<float> values(static_cast<size_t>(kRows * head_.hidden));
    const QuantMatrixView fp8 = fp8_.view();
    for (int64_t row = 0; row < head_.vocabulary; row += kRows) {
      const int64_t rows = std::min(kRows, head_.vocabulary - row);
      fill_bell(values, static_cast<uint64_t>(row));
      const ConstTensorView x = view_of(values.data(), Shape{rows, head_.hidden});
      for (int64_t r = row; r < row + rows; ++r) fp8.scales[r] = 4.0F / 448.0F;
      backend_.quantize(x, fp8, {.row = row, .col = 0}, {}, nullptr);
      backend_.store(x, bf16_.view(), {.row = row, .col = 0});
    }
  }

  void set_tokens(int64_t tokens) {
    x_.resize(static_cast<size_t>(tokens * head_.hidden));
    y_.resize(static_cast<size_t>(tokens * head_.vocabulary));
    fill_bell(x_, 99);
    tokens_ = tokens;
  }

  void multiply(const QuantMatrix& w) {
    const Activations x{.dense = view_of(x_.data(), Shape{tokens_, head_.hidden}),
                        .precision = Precision::kBFloat16,
                        .quantized = {}};
    backend_.gemm(x, w.view(), {}, view_of(y_.data(), Shape{tokens_, head_.vocabulary}));
  }

  void check_output(const QuantMatrixView& w, int64_t t, int64_t v) const {
    double sum = 0;
    double magnitude = 0;
    for (int64_t k = 0; k < head_.hidden; ++k) {
      const double value = visit_float(w.dtype, [&]<class T>() {
        T element;
        std::memcpy(&element, w.element(v, k), sizeof element);
        return static_cast<double>(to_float(element));
      });
      const float x = round_to_bfloat16(x_[static_cast<size_t>(t * head_.hidden + k)]);
      const double product = static_cast<double>(x) * value * static_cast<double>(w.scale(v, k));
      sum += product;
      magnitude += std::abs(product);
    }
    const double bound = magnitude * static_cast<double>(head_.hidden + 8) * 0x1p-24;
    const double found = static_cast<double>(y_[static_cast<size_t>(t * head_.vocabulary + v)]);
    check(std::abs(found - sum) <= bound,
          "an output differs from the reference beyond the rounding of a float32 sum");
  }

  Backend& backend_;
  Stopwatch clock_;
  Ceilings& ceilings_;
  Head head_;
  QuantMatrix fp8_;
  QuantMatrix bf16_;
  int64_t tokens_ = 0;
  std::vector<float> x_;  // [T, H]
  std::vector<float> y_;  // [T, V]
};

std::vector<Head> heads(const Options& options) {
  if (options.quick) return {{.vocabulary = 32768, .hidden = 2048}};
  // [131072, 5120] in both formats at once is 2 GB; half of its rows are measured.
  return {{.vocabulary = 128256, .hidden = 2048}, {.vocabulary = 65536, .hidden = 5120}};
}

int run(const Options& options) {
  MemoryLedger ledger;
  const auto backend =
      make_backend({.device = "cpu", .threads = options.threads, .isa = std::nullopt}, ledger);
  const Stopwatch clock = clock_for(backend->threads().threads());
  Ceilings ceilings(supported_isas().back(), backend->threads(), clock);
  std::printf("%s, %s; %s\n", cpu_name().c_str(), backend->describe().c_str(), describe(clock));
  std::printf("%8s %6s %6s %10s %10s %9s %9s %9s %12s %8s\n", "V", "H", "tokens", "fp8, ms", "bf16, ms",
              "GB/s", "GFLOP/s", "of limit", "bf16 / fp8", "lowest");
  bool slower = false;
  for (const Head& head : heads(options)) {
    Pair pair(*backend, ceilings, head);
    const auto weights = static_cast<double>(head.vocabulary * head.hidden);
    for (const int64_t tokens : options.tokens) {
      pair.check_results(tokens);
      const Pair::Times times = pair.time(tokens, options.pairs);
      std::printf("%8lld %6lld %6lld %10.2f %10.2f %9.1f %9.1f %9.3f %12.3f %8.3f\n",
                  static_cast<long long>(head.vocabulary), static_cast<long long>(head.hidden),
                  static_cast<long long>(tokens), 1e3 * times.fp8, 1e3 * times.bf16,
                  weights / times.fp8 / 1e9, 2e-9 * weights * static_cast<double>(tokens) / times.fp8,
                  times.ceiling, times.ratio, times.lowest);
      std::fflush(stdout);
      slower = slower || times.ratio < options.least;
    }
  }
  if (slower) std::printf("FP8 fell behind: a ratio is below %.2f\n", options.least);
  return slower ? 1 : 0;
}

}  // namespace
}  // namespace octet::bench

int main(int argc, char** argv) {
  octet::bench::Options options;
  CLI::App app("Times the head in FP8 beside the head in bfloat16; exit code 1 where FP8 falls behind");
  app.add_option("--threads", options.threads, "0: one for each core");
  app.add_option("--pairs", options.pairs, "timings of each figure")->check(CLI::Range(1, 1000));
  app.add_option("--least", options.least, "the ratio below which the program fails (0.95)");
  app.add_option("--tokens", options.tokens, "numbers of tokens")->check(CLI::Range(1, 4096));
  app.add_flag("--quick", options.quick, "one smaller head");
  CLI11_PARSE(app, argc, argv);
  return octet::bench::exit_code_of([&] { return octet::bench::run(options); });
}
