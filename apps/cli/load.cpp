// SPDX-License-Identifier: Apache-2.0
#include "apps/cli/load.h"

#include "apps/cli/command.h"
#include "apps/cli/load_display.h"
#include "apps/cli/model_location.h"
#include "apps/cli/output_file.h"
#include "apps/cli/signals.h"
#include "apps/cli/summary.h"
#include "octet/llm/follow.h"

namespace octet::cli {

namespace {

int rank_of(const ModelArgs& args) {
  return args.options.model.communicator == nullptr ? 0 : args.options.model.communicator->rank();
}

std::string report_path(const ModelArgs& args) {
  const int rank = rank_of(args);
  return args.load_report + (rank == 0 || args.load_report.empty() ? "" : ".rank" + std::to_string(rank));
}

void write_report(LLM& llm, const std::string& path, const std::optional<Json>& digests) {
  OutputFile file(path);
  Json report = llm.model().load_report().to_json();
  report["rank"] = llm.model().communicator().rank();
  report["world_size"] = llm.model().communicator().world_size();
  report["savings"] = to_json(loaded_savings(llm));
  if (digests) report["digests"] = *digests;
  file.write(report.dump(1, ' ', false, Json::error_handler_t::replace) + "\n");
  file.commit();
}

}  // namespace

std::unique_ptr<LLM> load_model(const ModelArgs& args, const Console& console) {
  args.check();
  if (args.tensor_parallel_size > 1 && args.options.model.communicator == nullptr)
    throw ConfigError("--tensor-parallel-size: this command runs in one process; leave the option out");
  const std::filesystem::path folder = find_model(args.model);
  const std::string report = report_path(args);
  if (!report.empty()) check_writable(report);
  console.detail("model " + folder.string());
  LoadDisplay display(console);
  LlmOptions options = args.options;
  options.model.progress = [&display, &args](const LoadProgress& progress) {
    display.update(progress);
    if (rank_of(args) == 0 && args.options.model.communicator != nullptr)
      args.options.model.communicator->check();  // another rank may have failed
    return !stop_requested();
  };
  options.model.warn = [&display, &console](const std::string& text) {
    display.clear();
    console.warn(text);
  };
  auto llm = std::make_unique<LLM>(folder, options);
  display.clear();
  check_stop();
  const std::optional<Json> digests = args.digest ? std::optional(digests_json(*llm)) : std::nullopt;
  if (digests) {
    for (const auto& [name, sha256] : digests->items()) console.note(sha256.get<std::string>() + "  " + name);
  }
  if (!report.empty()) write_report(*llm, report, digests);
  return llm;
}

void Command::follow() {
  ModelArgs* args = model_args();
  check(args != nullptr, "a command that is followed has a model");
  args->console.quiet = true;
  const Console console(args->console);
  octet::follow(*load_model(*args, console));
}

std::unique_ptr<Model> open_model(const ModelArgs& args, const Console& console) {
  args.check();
  ModelOptions options = args.options.model;
  options.warn = [&console](const std::string& text) { console.warn(text); };
  return std::make_unique<Model>(find_model(args.model), options);
}

int64_t model_positions(const ModelArgs& args) {
  return describe_folder(find_model(args.model)).spec.max_position_embeddings;
}

}  // namespace octet::cli
