// SPDX-License-Identifier: Apache-2.0
/// Times what loading does to bfloat16 weights (largest magnitude, quantizing to E4M3; without and with the
/// sums of what it cost) on the cpu backend, each figure taken in turn with a copy that moves the same bytes:
/// two read and one written for each element.
#include <CLI/CLI.hpp>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <string>

#include "bench/bench_support.h"
#include "octet/backend/cpu/ceilings.h"
#include "octet/backend/factory.h"

namespace octet::bench {
namespace {

constexpr int64_t kCols = 4096;
constexpr int64_t kBandRows = 64;   // of a block of scales; a panel of kLanes64
constexpr int64_t kSliceRows = 16;  // that are measured and then quantized from the cache, as a loader does
constexpr int64_t kTaskRows = 256;

struct Options {
  int threads = 0;
  std::string isa;
  int pairs = 11;
  int64_t rows = 16384;
};

struct Case {
  std::string what;
  ScaleKind scales;
  MatrixLayout layout;
  bool counted;  // with QuantizeStats
};

class QuantizeBench {
 public:
  explicit QuantizeBench(const Options& options)
      : options_(options),
        backend_(make_backend(backend_options(options), ledger_)),
        clock_(clock_for(backend_->threads().threads())),
        ceilings_(isa(), backend_->threads(), clock_),
        source_(backend_->allocator(), ledger_, "bench", options.rows * kCols * 2),
        copy_(backend_->allocator(), ledger_, "bench", options.rows * kCols * 2) {
    std::vector<float> bell(static_cast<size_t>(kCols * kBandRows));
    auto* x = reinterpret_cast<bfloat16*>(source_.data());
    for (int64_t begin = 0; begin < options.rows; begin += kBandRows) {
      if (begin < 8 * kBandRows) fill_bell(bell, static_cast<uint64_t>(begin));
      for (size_t i = 0; i < bell.size(); ++i)
        x[begin * kCols + static_cast<int64_t>(i)] = to_bfloat16(0.02F * bell[i]);
    }
  }

  void run(const Case& what) {
    const QuantMatrix w(backend_->allocator(), ledger_, "bench", spec_of(what, options_.rows));
    check_against_reference(what);
    std::vector<double> ratios;
    std::vector<double> rates;
    (void)seconds_of(clock_, [&] { quantize(w.view(), what.counted); });
    for (int pair = 0; pair < options_.pairs; ++pair) {
      const double copying =
          ceilings_.copy_seconds(source_.data(), copy_.data(), options_.rows * kCols / 2 * 3);
      const double quantizing = seconds_of(clock_, [&] { quantize(w.view(), what.counted); });
      ratios.push_back(copying / quantizing);
      rates.push_back(static_cast<double>(options_.rows * kCols) / quantizing / 1e9);
    }
    std::printf("%-34s %6.2f Gelem/s  %6.2f GB/s in  %5.2f of the copy\n", what.what.c_str(), median(rates),
                2 * median(rates), median(ratios));
  }
  void print_machine() const {
    std::printf("%s, %s; %s\n", cpu_name().c_str(), backend_->describe().c_str(), describe(clock_));
  }

 private:
  static BackendOptions backend_options(const Options& options) {
    BackendOptions result = {.device = "cpu", .threads = options.threads, .isa = std::nullopt};
    if (!options.isa.empty()) result.isa = parse_cpu_isa(options.isa);
    return result;
  }
  [[nodiscard]] CpuIsa isa() const {
    return options_.isa.empty() ? supported_isas().back() : parse_cpu_isa(options_.isa);
  }
  static MatrixSpec spec_of(const Case& what, int64_t rows) {
    MatrixSpec spec = {.dtype = DType::kF8E4M3,
                       .rows = rows,
                       .cols = kCols,
                       .layout = what.layout,
                       .scale_kind = what.scales,
                       .parts = {}};
    if (what.scales == ScaleKind::kGrid) append_scale_part(spec.parts, rows, kCols, kBandRows, 128);
    return spec;
  }
  [[nodiscard]] ConstTensorView rows_of_source(int64_t begin, int64_t rows) const {
    return {source_.data() + begin * kCols * 2, DType::kBF16, Shape{rows, kCols}};
  }
  static void set_scales(Backend& backend, ConstTensorView x, const QuantMatrixView& w, int64_t begin) {
    constexpr int64_t kBlocks = kCols / 128;
    float amax[kBandRows * kBlocks];
    if (w.scale_kind == ScaleKind::kRow) {
      backend.abs_max(x, kCols, kCols, view_of(amax, Shape{x.rows(), 1}));
      for (int64_t r = 0; r < x.rows(); ++r) w.scales[begin + r] = amax[r] / 448.0F;
    } else if (w.scale_kind == ScaleKind::kGrid) {
      backend.abs_max(x, 128, 128, view_of(amax, Shape{x.rows(), kBlocks}));
      for (int64_t b = 0; b < kBlocks; ++b) {
        float most = 0;
        for (int64_t r = 0; r < x.rows(); ++r) most = std::fmax(most, amax[r * kBlocks + b]);
        w.scales[w.parts[0].index(begin, b * 128)] = most / 448.0F;
      }
    }
  }
  /// Scales and codes of some rows.
  void quantize_rows(Backend& backend, const QuantMatrixView& w, int64_t begin, int64_t rows, bool counted) {
    const int64_t step = w.scale_kind == ScaleKind::kGrid ? kBandRows : kSliceRows;
    QuantizeStats stats;
    for (int64_t row = begin; row < begin + rows; row += step) {
      const ConstTensorView x = rows_of_source(row, step);
      set_scales(backend, x, w, row);
      backend.quantize(x, w, {.row = row, .col = 0}, {}, counted ? &stats : nullptr);
    }
    check(stats.elements == (counted ? rows * kCols : 0), "an element was not counted");
  }
  void quantize(const QuantMatrixView& w, bool counted) {
    backend_->threads().parallel_for(options_.rows / kTaskRows, [&](int64_t task, int) {
      quantize_rows(*backend_, w, task * kTaskRows, kTaskRows, counted);
    });
  }
  void check_against_reference(const Case& what) {
    const auto reference = make_backend({.device = "reference", .threads = 1, .isa = std::nullopt}, ledger_);
    const QuantMatrix expected(reference->allocator(), ledger_, "bench", spec_of(what, kBandRows));
    const QuantMatrix actual(backend_->allocator(), ledger_, "bench", spec_of(what, kBandRows));
    quantize_rows(*reference, expected.view(), 0, kBandRows, what.counted);
    quantize_rows(*backend_, actual.view(), 0, kBandRows, what.counted);
    check(std::memcmp(expected.view().data, actual.view().data, static_cast<size_t>(kBandRows * kCols)) == 0,
          "the codes differ from the reference");
  }

  Options options_;
  MemoryLedger ledger_;
  std::unique_ptr<Backend> backend_;
  Stopwatch clock_;
  Ceilings ceilings_;
  Buffer source_;
  Buffer copy_;
};

int run(int argc, char** argv) {
  Options options;
  CLI::App app("Speed of quantizing bfloat16 to E4M3, without and with the sums of what it cost");
  app.add_option("--threads", options.threads, "threads (all cores)");
  app.add_option("--isa", options.isa, "instruction set (the best)");
  app.add_option("--pairs", options.pairs, "pairs of timings (11)")->check(CLI::PositiveNumber);
  app.add_option("--rows", options.rows, "rows of 4096 elements, a multiple of 256 (16384)")
      ->check([](const std::string& rows) -> std::string {
        const bool whole = CLI::PositiveNumber(rows).empty() && std::stoll(rows) % kTaskRows == 0;
        return whole ? "" : rows + " is not a multiple of " + std::to_string(kTaskRows);
      });
  CLI11_PARSE(app, argc, argv);
  QuantizeBench bench(options);
  bench.print_machine();
  for (const bool counted : {false, true}) {
    std::printf("%s\n",
                counted ? "with the sums of signal and noise, as loading does" : "codes and scales alone");
    bench.run({"  one scale per row, packed", ScaleKind::kRow, MatrixLayout::kLanes64, counted});
    bench.run({"  one scale per row, row-major", ScaleKind::kRow, MatrixLayout::kRowMajor, counted});
    bench.run({"  one scale per 64 x 128, packed", ScaleKind::kGrid, MatrixLayout::kLanes64, counted});
    bench.run({"  raw cast, packed", ScaleKind::kNone, MatrixLayout::kLanes64, counted});
  }
  return 0;
}

}  // namespace
}  // namespace octet::bench

int main(int argc, char** argv) {
  return octet::bench::exit_code_of([&] { return octet::bench::run(argc, argv); });
}
