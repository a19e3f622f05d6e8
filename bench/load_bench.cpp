// SPDX-License-Identifier: Apache-2.0
/// Times loading a checkpoint beside reading the same files and doing nothing, cold, turn by turn, and beside
/// the quantizer alone: a load can be no faster than the slower of the two. With --first-token also a warm
/// start, from opening the folder to the first token, beside reading and quantizing the same bytes and no
/// more.
#include <fcntl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <string>

#include "bench/bench_support.h"
#include "octet/checkpoint/checkpoint.h"
#include "octet/llm/llm.h"
#include "octet/quant/scales.h"

namespace octet::bench {
namespace {

constexpr int64_t kReadBytes = int64_t{4} << 20;
constexpr int64_t kTileRows = 256;
constexpr int64_t kTileCols = 4096;
constexpr int64_t kTileBytes = kTileRows * kTileCols * 2;
constexpr double kGiga = 1e9;

struct Options {
  std::string model;
  int threads = 0;
  int pairs = 3;
  bool warm = false;
  bool first_token = false;
};

struct Case {
  const char* name;
  Granularity granularity;
};

/// A file opened for reading alone, as plainly as can be.
class PlainFile {
 public:
  explicit PlainFile(const std::filesystem::path& path) : fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    check(fd_ >= 0, path.string() + " cannot be opened");
  }
  ~PlainFile() { ::close(fd_); }
  PlainFile(const PlainFile&) = delete;
  PlainFile& operator=(const PlainFile&) = delete;

  void drop_cache() const { (void)::posix_fadvise(fd_, 0, 0, POSIX_FADV_DONTNEED); }
  /// Bytes from `offset` on, as many as there are and the buffer holds.
  [[nodiscard]] int64_t read_at(int64_t offset, std::vector<std::byte>& buffer) const {
    return std::max<ssize_t>(0, ::pread(fd_, buffer.data(), buffer.size(), offset));
  }
  /// One thread, from the first byte to the last; the kernel knows that it is sequential.
  [[nodiscard]] int64_t read_all(std::vector<std::byte>& buffer) const {
    (void)::posix_fadvise(fd_, 0, 0, POSIX_FADV_SEQUENTIAL);
    int64_t bytes = 0;
    for (ssize_t got = 1; got > 0; bytes += std::max<ssize_t>(0, got))
      got = ::read(fd_, buffer.data(), buffer.size());
    return bytes;
  }

 private:
  int fd_;
};

class LoadBench {
 public:
  explicit LoadBench(const Options& options) : options_(options), files_(Checkpoint(options.model).files()) {}

  void run(const Case& what) {
    std::vector<double> loads;
    std::vector<double> reads;
    std::vector<double> shares;
    const double quantizer = quantizer_rate(what.granularity);
    for (int pair = 0; pair < options_.pairs; ++pair) {
      const double read = read_rate();
      const double load = load_rate(what.granularity);
      reads.push_back(read);
      loads.push_back(load);
      shares.push_back(load / std::min(read, quantizer));
    }
    std::printf("%-24s load %6.3f GB/s, reading alone %6.3f, quantizing alone %6.3f: %5.2f of the slower\n",
                what.name, median(loads) / kGiga, median(reads) / kGiga, quantizer / kGiga, median(shares));
  }

  /// Of a file cache that holds all files.
  void run_first_token(const Case& what) {
    const int64_t quantized = quantized_bytes(what.granularity);
    std::vector<double> starts;
    std::array<std::vector<double>, 2> works;
    std::array<std::vector<double>, 2> times;
    for (int pair = 0; pair < options_.pairs; ++pair) {
      starts.push_back(seconds_of(Stopwatch::kWall, [&] { first_token(what.granularity); }));
      for (const size_t keep : {0, 1}) {
        works.at(keep).push_back(work_seconds(what.granularity, quantized, keep != 0));
        times.at(keep).push_back(starts.back() / works.at(keep).back());
      }
    }
    std::printf(
        "%-24s first token after %6.3f s; reading and quantizing alone, %6.3f s into the cache: %5.2f times; "
        "%6.3f s into new memory: %5.2f times\n",
        what.name, median(starts), median(works[0]), median(times[0]), median(works[1]), median(times[1]));
  }

 private:
  void prepare() const {
    if (options_.warm) return;
    for (const auto& path : files_) PlainFile(path).drop_cache();
  }

  [[nodiscard]] double read_rate() const {
    prepare();
    std::vector<std::byte> buffer(static_cast<size_t>(kReadBytes));
    int64_t bytes = 0;
    const double seconds = seconds_of(Stopwatch::kWall, [&] {
      for (const auto& path : files_) bytes += PlainFile(path).read_all(buffer);
    });
    return static_cast<double>(bytes) / seconds;
  }

  [[nodiscard]] ModelOptions model_options(Granularity granularity) const {
    ModelOptions model;
    model.quant.quantization = granularity;
    model.device.threads = options_.threads;
    return model;
  }

  [[nodiscard]] double load_rate(Granularity granularity) const {
    Model model(options_.model, model_options(granularity));
    prepare();
    const LoadReport& report = model.load();
    return static_cast<double>(report.read_bytes) / report.seconds;
  }

  void first_token(Granularity granularity) const {
    LlmOptions options;
    options.model = model_options(granularity);
    options.max_model_len = 64;
    LLM llm(options_.model, options);
    GenerateOptions one;
    one.sampling.max_tokens = 1;
    one.sampling.ignore_eos = true;
    check(llm.generate(std::vector<int32_t>{1, 2, 3}, one).ids.size() == 1, "no token came");
  }

  /// Bytes of the files that a load turns into FP8.
  [[nodiscard]] int64_t quantized_bytes(Granularity granularity) const {
    Model model(options_.model, model_options(granularity));
    int64_t bytes = 0;
    for (const WeightRecord& weight : model.load().weights) {
      if (weight.quantized) bytes += weight.elements * dtype_size(weight.source_dtype);
    }
    return bytes;
  }

  /// All threads read all bytes of the files, in pieces, and quantize the first `quantized` of them: each
  /// into a matrix of the thread's own that is written over and over; or with `keep` into memory that was
  /// never touched before, as a load must, where the other bytes go as they are.
  [[nodiscard]] double work_seconds(Granularity granularity, int64_t quantized, bool keep) const {
    MemoryLedger ledger;
    const auto backend =
        make_backend({.device = "cpu", .threads = options_.threads, .isa = std::nullopt}, ledger);
    const auto workers = static_cast<size_t>(backend->threads().threads());
    std::vector<QuantMatrix> outputs;
    for (size_t i = 0; i < workers; ++i)
      outputs.emplace_back(backend->allocator(), ledger, "bench",
                           spec_of(granularity, backend->weight_layout()));
    std::vector<std::vector<std::byte>> buffers(workers, std::vector<std::byte>(kTileBytes));
    int64_t all = 0;
    for (const auto& path : files_)
      all += static_cast<int64_t>(std::filesystem::file_size(path)) + kTileBytes;
    Buffer kept;
    std::atomic<int64_t> left{quantized};
    std::atomic<int64_t> end{0};
    const auto work = [&](const PlainFile& file, int64_t index, size_t worker) {
      std::vector<std::byte>& buffer = buffers[worker];
      const int64_t got = file.read_at(index * kTileBytes, buffer);
      if (got < kTileBytes) return;
      if ((left -= got) + got <= 0) {
        if (keep) std::copy(buffer.begin(), buffer.end(), kept.data() + (end += got) - got);
        return;
      }
      QuantMatrixView output = outputs[worker].view();
      if (keep) output.data = kept.data() + (end += got / 2) - got / 2;
      quantize(*backend, {buffer.data(), DType::kBF16, Shape{kTileRows, kTileCols}}, output, granularity);
    };
    return seconds_of(Stopwatch::kWall, [&] {
      if (keep) kept = Buffer(backend->allocator(), ledger, "bench", all);
      for (const auto& path : files_) {
        const PlainFile file(path);
        const auto size = static_cast<int64_t>(std::filesystem::file_size(path));
        backend->threads().parallel_for((size + kTileBytes - 1) / kTileBytes, [&](int64_t index, int worker) {
          work(file, index, static_cast<size_t>(worker));
        });
      }
    });
  }

  /// Bytes of bfloat16 that become codes in a second, all threads, each tile into a matrix of its own that
  /// stays in the cache.
  [[nodiscard]] double quantizer_rate(Granularity granularity) const {
    const Model model(options_.model, model_options(granularity));
    MemoryLedger ledger;
    const auto backend =
        make_backend({.device = "cpu", .threads = options_.threads, .isa = std::nullopt}, ledger);
    std::vector<float> bell(static_cast<size_t>(kTileRows * kTileCols));
    fill_bell(bell, 1);
    std::vector<bfloat16> tile(bell.size());
    std::transform(bell.begin(), bell.end(), tile.begin(), [](float x) { return to_bfloat16(0.02F * x); });
    const ConstTensorView x{reinterpret_cast<const std::byte*>(tile.data()), DType::kBF16,
                            Shape{kTileRows, kTileCols}};
    const int threads = backend->threads().threads();
    std::vector<QuantMatrix> outputs;
    for (int i = 0; i < threads; ++i)
      outputs.emplace_back(backend->allocator(), ledger, "bench",
                           spec_of(granularity, backend->weight_layout()));
    const int64_t tiles = int64_t{64} * threads;
    const auto all = [&] {
      backend->threads().parallel_for(tiles, [&](int64_t, int worker) {
        quantize(*backend, x, outputs[static_cast<size_t>(worker)].view(), granularity);
      });
    };
    all();
    return static_cast<double>(tiles * kTileRows * kTileCols * 2) / seconds_of(Stopwatch::kWall, all);
  }

  static MatrixSpec spec_of(Granularity granularity, MatrixLayout layout) {
    MatrixSpec spec{
        .rows = kTileRows, .cols = kTileCols, .layout = layout, .scale_kind = ScaleKind::kRow, .parts = {}};
    if (granularity != Granularity::kBlock) return spec;
    spec.scale_kind = ScaleKind::kGrid;
    append_scale_part(spec.parts, kTileRows, kTileCols, kScaleBlock, kScaleBlock);
    return spec;
  }

  static void quantize(Backend& backend, ConstTensorView x, const QuantMatrixView& w,
                       Granularity granularity) {
    const bool grid = w.scale_kind == ScaleKind::kGrid;
    const int64_t run = grid ? kScaleBlock : kTileCols;
    const int64_t runs = kTileCols / run;
    const ScaleRule rule{.granularity = granularity};
    std::vector<float> amax(static_cast<size_t>(kTileRows * runs));
    backend.abs_max(x, run, run, view_of(amax.data(), Shape{kTileRows, runs}));
    const int64_t band = grid ? kScaleBlock : 1;
    for (int64_t row = 0; row < kTileRows; row += band) {
      for (int64_t col = 0; col < runs; ++col) {
        float most = 0;
        for (int64_t i = row; i < row + band; ++i)
          most = std::max(most, amax[static_cast<size_t>(i * runs + col)]);
        w.scales[row / band * runs + col] = scale_from_amax(most, rule);
      }
    }
    QuantizeStats stats;
    backend.quantize(x, w, {}, quantize_rule(rule), &stats);
  }

  Options options_;
  std::vector<std::filesystem::path> files_;
};

int run(int argc, char** argv) {
  Options options;
  CLI::App app("Speed of loading a checkpoint, beside reading its files and beside quantizing alone");
  app.add_option("MODEL", options.model, "a folder with a checkpoint (without it there is nothing to time)");
  app.add_option("--threads", options.threads, "threads (all cores)");
  app.add_option("--pairs", options.pairs, "pairs of timings (3)")->check(CLI::PositiveNumber);
  app.add_flag("--warm", options.warm, "leave the page cache as it is");
  app.add_flag("--first-token", options.first_token,
               "time a warm start to its first token instead (the files must fit the page cache)");
  CLI11_PARSE(app, argc, argv);
  if (options.model.empty()) {
    std::printf(
        "load_bench: no MODEL was given; tools/make_random_checkpoint.py llama-3.2-1b FOLDER makes one\n");
    return 0;
  }
  LoadBench bench(options);
  std::printf("%s, %s page cache\n", cpu_name().c_str(),
              options.warm || options.first_token ? "warm" : "cold");
  constexpr std::array kCases = {Case{"a scale per row", Granularity::kChannel},
                                 Case{"a scale per block", Granularity::kBlock},
                                 Case{"a scale per matrix", Granularity::kTensor}};
  for (const Case& what : kCases) {
    if (options.first_token) {
      bench.run_first_token(what);
    } else {
      bench.run(what);
    }
  }
  return 0;
}

}  // namespace
}  // namespace octet::bench

int main(int argc, char** argv) {
  return octet::bench::exit_code_of([&] { return octet::bench::run(argc, argv); });
}
