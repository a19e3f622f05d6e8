// SPDX-License-Identifier: Apache-2.0
/// Times Backend::gemm of the cpu backend, each figure beside its ceiling taken in turn with it: few tokens
/// beside a sweep that reads the same bytes, many beside the multiply peak ("of cached": that of tiles whose
/// operands come from the second cache). Weights are cold: they rotate through 256 MiB.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>

#include "bench/bench_support.h"
#include "octet/backend/cpu/ceilings.h"
#include "octet/backend/factory.h"
#include "octet/base/checked_math.h"

namespace octet::bench {
namespace {

constexpr int64_t kColdBytes = int64_t{256} << 20;
/// A timing takes in at least so many bytes of weights, that the clock and the waking of threads do not
/// count.
constexpr int64_t kSampleBytes = int64_t{32} << 20;

struct Options {
  int threads = 0;
  std::string isa;
  std::string json;
  bool quick = false;
  int pairs = 15;
  std::vector<int64_t> tokens;
};

struct Case {
  std::string what;
  int64_t n = 0;
  int64_t k = 0;
  DType dtype = DType::kF8E4M3;
  ScaleKind scales = ScaleKind::kRow;
  Precision precision = Precision::kBFloat16;
  bool quantized = false;  // x in FP8, one scale per token
  std::vector<int64_t> tokens;
};

struct Result {
  double gigabytes = 0;  // of weights, a second
  double gigaflops = 0;
  double read_ratio = 0;      // of the sweep
  double peak_ratio = 0;      // of the multiply peak
  double cached_ratio = 0;    // of the same with operands out of the second cache
  double roofline_ratio = 0;  // of the larger of the times that reading and multiplying need
};

class Bench {
 public:
  Bench(const Options& options, MemoryLedger& ledger)
      : options_(options),
        ledger_(ledger),
        backend_(make_backend(backend_options(options), ledger)),
        isa_(options.isa.empty() ? supported_isas().back() : parse_cpu_isa(options.isa)),
        clock_(clock_for(backend_->threads().threads())),
        ceilings_(isa_, backend_->threads(), clock_) {}

  [[nodiscard]] Backend& backend() { return *backend_; }
  [[nodiscard]] Ceilings& ceilings() { return ceilings_; }
  [[nodiscard]] CpuIsa isa() const { return isa_; }
  [[nodiscard]] Stopwatch clock() const { return clock_; }

  /// Copies of one weight, enough that the first is cold again after the last.
  void prepare(const Case& what);
  /// Largest difference to the reference over the error bound of a float32 sum; throws when it is above 1.
  double check_result(const Case& what, int64_t tokens);
  [[nodiscard]] Result time(const Case& what, int64_t tokens);

 private:
  static BackendOptions backend_options(const Options& options) {
    BackendOptions result{.device = "cpu", .threads = options.threads, .isa = std::nullopt};
    if (!options.isa.empty()) result.isa = parse_cpu_isa(options.isa);
    return result;
  }
  void multiply(Backend& backend, const QuantMatrix& w, TensorView y, int64_t tokens);
  void set_activations(const Case& what, int64_t tokens);
  [[nodiscard]] TensorView outputs(const Case& what, int64_t tokens) const {
    return {y_.data(), DType::kF32, Shape{tokens, what.n}};
  }

  const Options& options_;
  MemoryLedger& ledger_;
  std::unique_ptr<Backend> backend_;
  CpuIsa isa_;
  Stopwatch clock_;
  Ceilings ceilings_;
  std::vector<QuantMatrix> weights_;
  size_t next_ = 0;
  std::vector<float> x_;  // [T, K]
  Buffer y_;              // [T, N]
  QuantMatrix codes_;     // [T, K]
  Activations activations_;
};

MatrixSpec weight_spec(const Case& what, MatrixLayout layout) {
  MatrixSpec spec{.dtype = what.dtype,
                  .rows = what.n,
                  .cols = what.k,
                  .layout = layout,
                  .scale_kind = what.scales,
                  .parts = {}};
  if (what.scales == ScaleKind::kGrid) append_scale_part(spec.parts, what.n, what.k, 128, 128);
  return spec;
}

void Bench::prepare(const Case& what) {
  weights_.clear();
  next_ = 0;
  const MatrixSpec spec = weight_spec(what, backend_->weight_layout());
  const int64_t copies = std::max<int64_t>(2, ceil_div(kColdBytes, spec.bytes()));
  for (int64_t c = 0; c < copies; ++c) {
    QuantMatrix& w = weights_.emplace_back(backend_->allocator(), ledger_, "weights", spec);
    const QuantMatrixView view = w.view();
    const int64_t bytes = matrix_bytes(spec.layout, spec.dtype, spec.rows, spec.cols);
    fill_codes({view.data, static_cast<size_t>(bytes)}, static_cast<uint64_t>(c));
    for (int64_t s = 0; s < spec.scale_count(); ++s) view.scales[s] = 0.01F;
    w.set_codes_finite();
  }
}

void Bench::set_activations(const Case& what, int64_t tokens) {
  x_.resize(static_cast<size_t>(tokens * what.k));
  y_ = {};
  y_ = Buffer(backend_->allocator(), ledger_, "outputs", tokens * what.n * dtype_size(DType::kF32));
  fill_bell(x_, 99);
  activations_ = {
      .dense = view_of(x_.data(), Shape{tokens, what.k}), .precision = what.precision, .quantized = {}};
  if (!what.quantized) return;
  codes_ = QuantMatrix(backend_->allocator(), ledger_, "activations",
                       {.dtype = DType::kF8E4M3,
                        .rows = tokens,
                        .cols = what.k,
                        .layout = MatrixLayout::kRowMajor,
                        .scale_kind = ScaleKind::kRow,
                        .parts = {}});
  backend_->quantize_activations(activations_.dense, what.precision, std::nullopt, codes_.view());
  activations_.quantized = codes_.view();
}

double Bench::check_result(const Case& what, int64_t tokens) {
  set_activations(what, tokens);
  const QuantMatrixView w = weights_[0].view();
  backend_->gemm(activations_, w, {}, outputs(what, tokens));
  double worst = 0;
  // Some outputs of the first and the last row, in float64, and the sum of magnitudes that bounds a float32
  // sum.
  for (const int64_t t : {int64_t{0}, tokens - 1}) {
    for (int64_t n = 0; n < what.n; n += std::max<int64_t>(1, what.n / 97)) {
      double sum = 0;
      double magnitude = 0;
      for (int64_t k = 0; k < what.k; ++k) {
        const double value = visit_float(w.dtype, [&]<class T>() {
          T element;
          std::memcpy(&element, w.element(n, k), sizeof element);
          return static_cast<double>(to_float(element));
        });
        double x = static_cast<double>(x_[static_cast<size_t>(t * what.k + k)]);
        if (what.precision == Precision::kBFloat16)
          x = static_cast<double>(round_to_bfloat16(static_cast<float>(x)));
        if (what.quantized) {
          x = static_cast<double>(to_float(float8_e4m3{static_cast<uint8_t>(*codes_.view().element(t, k))})) *
              static_cast<double>(codes_.view().scale(t, k));
        }
        const double product = x * value * static_cast<double>(w.scale(n, k));
        sum += product;
        magnitude += std::abs(product);
      }
      const double bound = magnitude * static_cast<double>(what.k + 8) * 0x1p-24 + 1e-30;
      const double difference = std::abs(static_cast<double>(outputs(what, tokens).row<float>(t)[n]) - sum);
      worst = std::max(worst, difference / bound);
    }
  }
  check(worst <= 1.0,
        what.what + ": the result differs from the reference beyond the rounding of a float32 sum");
  return worst;
}

Result Bench::time(const Case& what, int64_t tokens) {
  set_activations(what, tokens);
  const int64_t bytes = weights_[0].bytes();
  const double operations = 2.0 * static_cast<double>(tokens * what.n * what.k);
  const auto calls = static_cast<size_t>(
      std::clamp<int64_t>(ceil_div(kSampleBytes, bytes * std::max<int64_t>(1, tokens / 4)), 1,
                          std::max<int64_t>(1, static_cast<int64_t>(weights_.size()) / 2)));
  const TensorView y = outputs(what, tokens);
  const bool pairs = isa_ >= CpuIsa::kAvx512Bf16 && what.precision == Precision::kBFloat16;
  std::vector<double> own;
  std::vector<double> read;
  std::vector<double> peak;
  std::vector<double> cached;
  std::vector<double> roof;
  std::vector<ByteSpan> pieces(calls);
  const auto take = [&]() -> const QuantMatrix& { return weights_[next_++ % weights_.size()]; };
  for (int pair = -1; pair < options_.pairs; ++pair) {
    for (ByteSpan& piece : pieces) {
      const QuantMatrix& w = take();
      piece = {w.view().data, static_cast<size_t>(matrix_bytes(w.spec().layout, what.dtype, what.n, what.k))};
    }
    const double sweep = ceilings_.read_seconds(pieces) / static_cast<double>(calls);
    const double seconds = seconds_of(clock_,
                                      [&] {
                                        for (size_t c = 0; c < calls; ++c)
                                          backend_->gemm(activations_, take().view(), {}, y);
                                      }) /
                           static_cast<double>(calls);
    const double limit = std::clamp(seconds * static_cast<double>(calls), 0.002, 0.02);
    const double flops = pairs ? ceilings_.bf16_flops(limit) : ceilings_.f32_flops(limit);
    const double from_cache = pairs ? ceilings_.bf16_flops_from_cache(limit) : flops;
    if (pair < 0) continue;  // the first touches memory and threads for the first time
    own.push_back(seconds);
    read.push_back(sweep / seconds);
    peak.push_back(operations / seconds / flops);
    cached.push_back(operations / seconds / from_cache);
    roof.push_back(std::max(sweep, operations / flops) / seconds);
  }
  const double seconds = median(own);
  return {.gigabytes = static_cast<double>(bytes) / seconds / 1e9,
          .gigaflops = operations / seconds / 1e9,
          .read_ratio = median(read),
          .peak_ratio = median(peak),
          .cached_ratio = median(cached),
          .roofline_ratio = median(roof)};
}

std::vector<Case> cases(const Options& options) {
  const std::vector<int64_t> few = {1};
  const std::vector<int64_t> all =
      options.quick ? std::vector<int64_t>{1, 8, 512} : std::vector<int64_t>{1, 2, 4, 8, 16, 32, 128, 512};
  const std::vector<int64_t> ends = {1, 512};
  std::vector<Case> result = {{.what = "e4m3 rows", .n = 8192, .k = 2048, .tokens = all}};
  if (options.quick) return result;
  result.push_back({.what = "e4m3 rows", .n = 2048, .k = 2048, .tokens = ends});
  result.push_back({.what = "e4m3 rows", .n = 2048, .k = 8192, .tokens = all});
  result.push_back({.what = "e4m3 rows", .n = 4096, .k = 4096, .tokens = ends});
  result.push_back({.what = "e4m3 rows, odd", .n = 50272, .k = 1000, .tokens = {1, 64}});
  result.push_back({.what = "e4m3 rows, K = 96", .n = 65536, .k = 96, .tokens = {1, 64}});
  result.push_back({.what = "e4m3 rows, odd", .n = 128257, .k = 2048, .tokens = few});
  result.push_back({.what = "e4m3 rows, N = 17", .n = 17, .k = 4096, .tokens = ends});
  result.push_back({.what = "e4m3 none", .n = 8192, .k = 2048, .scales = ScaleKind::kNone, .tokens = ends});
  result.push_back({.what = "e4m3 128x128", .n = 8192, .k = 2048, .scales = ScaleKind::kGrid, .tokens = all});
  result.push_back({.what = "e5m2 rows", .n = 8192, .k = 2048, .dtype = DType::kF8E5M2, .tokens = ends});
  result.push_back({.what = "e4m3 rows, x e4m3", .n = 8192, .k = 2048, .quantized = true, .tokens = ends});
  result.push_back(
      {.what = "e4m3 rows, x f32", .n = 8192, .k = 2048, .precision = Precision::kFloat32, .tokens = ends});
  result.push_back({.what = "bf16",
                    .n = 8192,
                    .k = 2048,
                    .dtype = DType::kBF16,
                    .scales = ScaleKind::kNone,
                    .tokens = ends});
  result.push_back({.what = "f16",
                    .n = 8192,
                    .k = 2048,
                    .dtype = DType::kF16,
                    .scales = ScaleKind::kNone,
                    .precision = Precision::kFloat32,
                    .tokens = ends});
  return result;
}

int run(const Options& options) {
  MemoryLedger ledger;
  Bench bench(options, ledger);
  std::printf("%s, %s; %s\n", cpu_name().c_str(), bench.backend().describe().c_str(),
              describe(bench.clock()));
  std::printf("%-18s %6s %6s %6s %9s %9s %8s %8s %9s %9s\n", "weights", "N", "K", "tokens", "GB/s", "GFLOP/s",
              "of read", "of peak", "of cached", "of limit");
  nlohmann::json rows = nlohmann::json::array();
  for (const Case& what : cases(options)) {
    bench.prepare(what);
    for (const int64_t tokens : options.tokens.empty() ? what.tokens : options.tokens) {
      bench.check_result(what, tokens);
      const Result r = bench.time(what, tokens);
      std::printf("%-18s %6lld %6lld %6lld %9.1f %9.1f %8.3f %8.3f %9.3f %9.3f\n", what.what.c_str(),
                  static_cast<long long>(what.n), static_cast<long long>(what.k),
                  static_cast<long long>(tokens), r.gigabytes, r.gigaflops, r.read_ratio, r.peak_ratio,
                  r.cached_ratio, r.roofline_ratio);
      std::fflush(stdout);
      rows.push_back({{"weights", what.what},
                      {"n", what.n},
                      {"k", what.k},
                      {"tokens", tokens},
                      {"gigabytes_per_second", r.gigabytes},
                      {"gigaflops", r.gigaflops},
                      {"read_fraction", r.read_ratio},
                      {"peak_fraction", r.peak_ratio},
                      {"cached_peak_fraction", r.cached_ratio},
                      {"ceiling_fraction", r.roofline_ratio}});
    }
  }
  if (!options.json.empty()) {
    const nlohmann::json all = {{"machine", {{"cpu", cpu_name()}, {"backend", bench.backend().describe()}}},
                                {"rows", rows}};
    std::FILE* file = std::fopen(options.json.c_str(), "w");
    if (file == nullptr) throw ConfigError("--json: cannot write " + options.json);
    const std::string text = all.dump(2) + "\n";
    std::fwrite(text.data(), 1, text.size(), file);
    std::fclose(file);
  }
  return 0;
}

}  // namespace
}  // namespace octet::bench

int main(int argc, char** argv) {
  octet::bench::Options options;
  CLI::App app("Times the multiply of the cpu backend beside the machine's own ceilings");
  app.add_option("--threads", options.threads, "0: one for each core");
  app.add_option("--isa", options.isa, "portable, avx2, avx512, avx512_bf16 or amx_bf16; default: the best");
  app.add_option("--json", options.json, "also write the table to this file");
  app.add_option("--pairs", options.pairs, "timings of each figure")->check(CLI::Range(1, 1000));
  app.add_option("--tokens", options.tokens, "only these numbers of tokens");
  app.add_flag("--quick", options.quick, "one shape");
  CLI11_PARSE(app, argc, argv);
  return octet::bench::exit_code_of([&] { return octet::bench::run(options); });
}
