// SPDX-License-Identifier: Apache-2.0
#include "apps/cli/load.h"

#include "apps/cli/load_display.h"
#include "apps/cli/model_location.h"
#include "apps/cli/output_file.h"
#include "apps/cli/signals.h"
#include "apps/cli/summary.h"
#include "octet/base/file_reader.h"
#include "octet/models/registry.h"

namespace octet::cli {

std::unique_ptr<LLM> load_model(const ModelArgs& args, const Console& console) {
  args.check();
  const std::filesystem::path folder = find_model(args.model);
  if (!args.load_report.empty()) check_writable(args.load_report);
  console.detail("model " + folder.string());
  LoadDisplay display(console);
  LlmOptions options = args.options;
  options.model.progress = [&display](const LoadProgress& progress) {
    display.update(progress);
    return !stop_requested();
  };
  options.model.warn = [&display, &console](const std::string& text) {
    display.clear();
    console.warn(text);
  };
  auto llm = std::make_unique<LLM>(folder, options);
  display.clear();
  check_stop();
  if (!args.load_report.empty()) {
    OutputFile file(args.load_report);
    Json report = llm->model().load_report().to_json();
    report["savings"] = to_json(loaded_savings(*llm));
    file.write(report.dump(1, ' ', false, Json::error_handler_t::replace) + "\n");
    file.commit();
  }
  return llm;
}

std::unique_ptr<Model> open_model(const ModelArgs& args, const Console& console) {
  args.check();
  ModelOptions options = args.options.model;
  options.warn = [&console](const std::string& text) { console.warn(text); };
  return std::make_unique<Model>(find_model(args.model), options);
}

int64_t model_positions(const ModelArgs& args) {
  const std::filesystem::path path = find_model(args.model) / "config.json";
  return read_decoder_spec(parse_json(read_text_file(path), path.string()), path.string())
      .max_position_embeddings;
}

}  // namespace octet::cli
