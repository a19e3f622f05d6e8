// SPDX-License-Identifier: Apache-2.0
/// octet quantize: a checkpoint in, an FP8 checkpoint out.
#include "octet/llm/quantize.h"

#include "apps/cli/args.h"
#include "apps/cli/command.h"
#include "apps/cli/format.h"
#include "apps/cli/load_display.h"
#include "apps/cli/model_location.h"
#include "apps/cli/output_file.h"
#include "apps/cli/signals.h"
#include "apps/cli/summary.h"
#include "octet/comm/communicator.h"
#include "octet/llm/follow.h"

namespace octet::cli {
namespace {

constexpr std::array<Choice<ExportFormat>, 4> kFormats = {{
    {"raw", ExportFormat::kRaw},
    {"compressed-tensors", ExportFormat::kCompressedTensors},
    {"fp8", ExportFormat::kFp8},
    {"fp8-block", ExportFormat::kFp8Block},
}};

std::string ratio_text(int64_t after, int64_t before) {
  return before <= 0
             ? "-"
             : format_number(100 * static_cast<double>(after) / static_cast<double>(before), 1) + " %";
}

std::string summary_text(const QuantizeReport& report) {
  Table table({{"file"}, {"bytes", true}});
  for (const WrittenFile& file : report.files) table.add({file.name, format_bytes(file.bytes)});
  return "folder        " + report.folder.string() + "\n" + "format        " +
         std::string(to_string(report.format)) + "\n" + "tensors       " + format_count(report.tensors) +
         "\n" + "weights       " + format_bytes(report.bytes_before) + " -> " +
         format_bytes(report.bytes_after) + " (" + ratio_text(report.bytes_after, report.bytes_before) +
         ")\n" + "time          " + format_number(report.seconds, 2) + " s, " +
         format_rate(static_cast<double>(report.load.read_bytes) / 1e9, report.seconds) + " GB/s read\n" +
         "memory        " + format_bytes(report.load.peak_bytes) + " of buffers at the peak, process " +
         format_bytes(report.load.process_peak_rss_bytes) + "\n\n" + table.text();
}

void show_quality(const QuantizeReport& report, const Console& console) {
  for (const WeightQuality& group : quality_by_group(report.load.quality())) {
    console.note("quantized  " + quality_text(group));
  }
}

class Quantize : public Command {
 public:
  void add_options(CLI::App& app) override {
    app.add_option("MODEL", args_.model,
                   "a folder in Hugging Face layout, or org/name in the local Hugging Face cache")
        ->type_name("")
        ->required();
    app.add_option("OUT", out_, "the folder to write; it appears whole or not at all")
        ->type_name("")
        ->required();
    add_choice(
        app, "--format", options_.format, kFormats,
        "compressed-tensors (the default): the public layout for any scales; fp8: one scale per matrix; "
        "fp8-block: one per 128 x 128 block; raw: as Octet holds it, for Octet alone");
    add_size(app, "--max-shard-size", max_shard_size_, "bytes of weights in one file (default 5GB)");
    app.add_flag("--overwrite,--force", options_.overwrite, "replace the model that OUT holds, in one step");
    app.add_flag("--json", json_, "one JSON object");
    add_weight_options(app, args_);
    app.add_option("--load-report", args_.load_report, "write what became of every tensor, as JSON")
        ->type_name("FILE");
  }

  void run() override {
    const Console console(args_.console);
    args_.check();
    if (max_shard_size_ && *max_shard_size_ < 1)
      throw UsageError("--max-shard-size: expected at least 1 byte");
    if (!args_.load_report.empty()) check_writable(args_.load_report);
    const std::filesystem::path folder = find_model(args_.model);
    const QuantizeReport report = quantize(folder, console);
    if (!args_.load_report.empty()) {
      OutputFile file(args_.load_report);
      file.write(report.load.to_json().dump(1, ' ', false, Json::error_handler_t::replace) + "\n");
      file.commit();
    }
    show_quality(report, console);
    if (json_) {
      write_json(report.to_json());
    } else {
      write_out(summary_text(report));
    }
  }

  [[nodiscard]] ModelArgs* model_args() override { return &args_; }

  /// The whole model passes through rank 0, tile by tile, so there is nothing for the others to hold.
  void follow() override { wait_for_end(*args_.options.model.communicator); }

 private:
  [[nodiscard]] QuantizeReport quantize(const std::filesystem::path& folder, const Console& console) {
    LoadDisplay display(console, "quantizing");
    Communicator* const ranks = args_.options.model.communicator;
    options_.model = args_.options.model;
    options_.model.communicator = nullptr;
    if (max_shard_size_) options_.max_shard_bytes = *max_shard_size_;
    options_.model.progress = [&display, ranks](const LoadProgress& progress) {
      display.update(progress);
      if (ranks != nullptr) ranks->check();  // another rank may have failed
      return !stop_requested();
    };
    options_.model.warn = [&display, &console](const std::string& text) {
      display.clear();
      console.warn(text);
    };
    return quantize_checkpoint(folder, out_, options_);
  }

  ModelArgs args_;
  QuantizeOptions options_;
  std::string out_;
  std::optional<int64_t> max_shard_size_;
  bool json_ = false;
};

}  // namespace

std::unique_ptr<Command> make_quantize() {
  return std::make_unique<Quantize>();
}

}  // namespace octet::cli
