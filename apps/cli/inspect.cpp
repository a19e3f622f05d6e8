// SPDX-License-Identifier: Apache-2.0
/// octet inspect: what a model is and what it will take, before a weight is read.
#include "octet/llm/inspect.h"

#include "apps/cli/args.h"
#include "apps/cli/command.h"
#include "apps/cli/format.h"
#include "apps/cli/load.h"
#include "octet/comm/planning.h"
#include "octet/llm/unknown_architecture.h"

namespace octet::cli {
namespace {

std::string signed_bytes(int64_t bytes) {
  return bytes < 0 ? "-" + format_bytes(-bytes) : format_bytes(bytes);
}

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text;
  for (const int64_t size : shape) text += (text.empty() ? "" : ", ") + std::to_string(size);
  return "[" + text + "]";
}

std::string groups_text(const MemoryPlan& plan) {
  Table table({{"weights"}, {"elements", true}, {"in the files", true}, {"in memory", true}});
  PlanGroup total{.name = "all"};
  for (const PlanGroup& group : plan.groups) {
    table.add({group.name, format_count(group.elements), format_bytes(group.bytes_before),
               format_bytes(group.bytes_after)});
    total.elements += group.elements;
    total.bytes_before += group.bytes_before;
    total.bytes_after += group.bytes_after;
  }
  table.add({total.name, format_count(total.elements), format_bytes(total.bytes_before),
             format_bytes(total.bytes_after)});
  return table.text();
}

std::string savings_text(const std::vector<OptionSaving>& options) {
  Table table({{"option"}, {"", false}, {"saves", true}, {"tokens of KV cache", true}});
  for (const OptionSaving& saving : options) {
    table.add({saving.option, saving.in_force ? "in force" : "", signed_bytes(saving.saved_bytes),
               format_count(saving.kv_cache_tokens)});
  }
  return table.text();
}

Json tensors_json(const WeightSource& source) {
  Json list = Json::array();
  for (const SourceTensor& tensor : source.tensors()) {
    list.push_back({{"name", tensor.name},
                    {"dtype", to_string(tensor.dtype)},
                    {"shape", tensor.shape},
                    {"file", tensor.file}});
  }
  return list;
}

std::string tensors_text(const WeightSource& source) {
  Table table({{"tensor"}, {"dtype"}, {"shape"}, {"file"}});
  for (const SourceTensor& tensor : source.tensors()) {
    table.add({tensor.name, std::string(to_string(tensor.dtype)), shape_text(tensor.shape), tensor.file});
  }
  return table.text();
}

class Inspect : public Command {
 public:
  void add_options(CLI::App& app) override {
    add_model_argument(app, args_.model);
    app.add_flag("--json", json_, "one JSON object");
    app.add_flag("--tensors", tensors_, "every tensor with dtype, shape and file");
    add_weight_options(app, args_);
    add_cache_dtype_option(app, args_);
  }

  void run() override {
    try {
      show();
    } catch (const UnsupportedModel& unsupported) {
      if (json_) write_json(unsupported.comparison().to_json());
      throw;
    }
  }

 private:
  void show() {
    const Console console(args_.console);
    if (args_.tensor_parallel_size > 1) return show_ranks(console);
    const auto model = open_model(args_, console);
    const Inspection inspection = inspect(*model, args_.options.kv_cache_dtype);
    if (json_) {
      Json json = inspection.to_json();
      if (tensors_) json["tensors"] = tensors_json(model->source());
      write_json(json);
      return;
    }
    write_out(describe(*model, inspection));
    if (tensors_) write_out("\n" + tensors_text(model->source()));
  }

  /// What each rank of a model that is cut would read and hold; needs no other process.
  void show_ranks(const Console& console) {
    const auto ranks = static_cast<int>(args_.tensor_parallel_size);
    Table table({{"rank", true},
                 {"to read", true},
                 {"memory", true},
                 {"at the peak", true},
                 {"KV cache per token", true}});
    Json json = Json::array();
    for (int rank = 0; rank < ranks; ++rank) {
      PlanningCommunicator place(rank, ranks);
      args_.options.model.communicator = &place;
      const auto model = open_model(args_, console);
      const Inspection inspection = inspect(*model, args_.options.kv_cache_dtype);
      const MemoryPlan& plan = inspection.plan;
      table.add({std::to_string(rank), format_bytes(plan.read_bytes), format_bytes(plan.final_bytes),
                 format_bytes(plan.peak_bytes), format_count(inspection.kv_cache_bytes_per_token)});
      Json entry = inspection.to_json();
      entry["rank"] = rank;
      json.push_back(std::move(entry));
    }
    if (json_) {
      write_json({{"ranks", std::move(json)}});
    } else {
      write_out(table.text());
    }
  }

  static std::string describe(Model& model, const Inspection& inspection) {
    const DecoderSpec& spec = model.spec();
    const MemoryPlan& plan = inspection.plan;
    return "model         " + model.folder().string() + "\n" + "architecture  " + inspection.architecture +
           ", " + std::to_string(spec.num_hidden_layers) + " layers, hidden size " +
           std::to_string(spec.hidden_size) + ", " + std::to_string(spec.num_attention_heads) + " heads (" +
           std::to_string(spec.num_key_value_heads) + " for keys and values), vocabulary " +
           std::to_string(spec.vocab_size) + "\n" + "parameters    " + format_count(inspection.parameters) +
           "\n" + "computed in   " + std::string(torch_name(inspection.dtype)) + " on " + inspection.backend +
           "\n\n" + groups_text(plan) + "\n" + "loading       " + format_bytes(plan.read_bytes) +
           " to read, " + format_bytes(plan.peak_bytes) + " of memory at the peak, " +
           format_bytes(plan.final_bytes) + " in the end\n" + "KV cache      " +
           format_count(inspection.kv_cache_bytes_per_token) + " bytes per token; the model's " +
           format_count(inspection.max_position_embeddings) + " positions take " +
           format_bytes(inspection.kv_cache_bytes_per_token * inspection.max_position_embeddings) + "\n\n" +
           savings_text(inspection.options);
  }

  ModelArgs args_;
  bool json_ = false;
  bool tensors_ = false;
};

}  // namespace

std::unique_ptr<Command> make_inspect() {
  return std::make_unique<Inspect>();
}

}  // namespace octet::cli
