// SPDX-License-Identifier: Apache-2.0
#include "octet/llm/unknown_architecture.h"

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include "octet/backend/factory.h"
#include "octet/base/faults.h"
#include "octet/comm/single.h"
#include "octet/core/memory_ledger.h"
#include "octet/loading/binding.h"
#include "octet/models/decoder.h"
#include "octet/models/registry.h"
#include "octet/quant/name_pattern.h"

namespace octet {
namespace {

/// Fields of every config.json that say nothing of what a model computes, or that are read elsewhere.
constexpr std::array kIdleFields = std::to_array<std::string_view>({"architectures",
                                                                    "model_type",
                                                                    "quantization_config",
                                                                    "transformers_version",
                                                                    "use_cache",
                                                                    "auto_map",
                                                                    "_name_or_path",
                                                                    "initializer_range",
                                                                    "init_std",
                                                                    "attention_dropout",
                                                                    "activation_dropout",
                                                                    "dropout",
                                                                    "layerdrop",
                                                                    "pretraining_tp",
                                                                    "unk_token_id",
                                                                    "pad_token_id",
                                                                    "sep_token_id",
                                                                    "tokenizer_class",
                                                                    "return_dict",
                                                                    "output_attentions",
                                                                    "output_hidden_states",
                                                                    "output_router_logits",
                                                                    "router_aux_loss_coef",
                                                                    "aux_loss_alpha",
                                                                    "seq_aux",
                                                                    "ep_size",
                                                                    "is_encoder_decoder",
                                                                    "torchscript"});

/// Stands in for fields that a config lacks, so that the names of an architecture's tensors can be told.
const char* const kUsual = R"({"vocab_size": 64, "hidden_size": 64, "intermediate_size": 64, "ffn_dim": 64,
  "num_hidden_layers": 4, "num_attention_heads": 4, "num_experts": 2, "num_experts_per_tok": 1,
  "moe_intermediate_size": 64, "n_shared_experts": 1, "kv_lora_rank": 16, "qk_nope_head_dim": 8,
  "qk_rope_head_dim": 8, "v_head_dim": 8})";

/// "model.layers.3.mlp.weight" -> "model.layers.*.mlp.weight": tensors of one kind differ in numbers only.
std::string kind_of(std::string_view name) {
  std::string kind;
  while (true) {
    const size_t end = name.find('.');
    const std::string_view part = name.substr(0, end);
    const bool number = !part.empty() && part.find_first_not_of("0123456789") == std::string_view::npos;
    kind += number ? std::string_view("*") : part;
    if (end == std::string_view::npos) return kind;
    kind += '.';
    name.remove_prefix(end + 1);
  }
}

/// "<module>.weight_scale_inv" -> "<module>.weight": scales come with what they scale.
std::string_view without_scale(std::string_view name) {
  for (const std::string_view suffix : {"_scale_inv", "_scale"}) {
    if (name.ends_with(suffix)) return name.substr(0, name.size() - suffix.size());
  }
  return name;
}

struct Kind {
  int64_t count = 0;
  std::vector<int64_t> shape;  ///< of the first
};
using Kinds = std::map<std::string, Kind, std::less<>>;

/// A known architecture, and what it would read if the model were of it.
struct Candidate {
  ArchitectureReading reading;
  std::vector<std::string> skipped;  ///< patterns
  Kinds required;
  std::set<std::string, std::less<>> accepted;                ///< required ones among them
  std::map<std::string, std::string, std::less<>> stand_ins;  ///< required kind -> other kinds in its place
  std::map<std::string, Shape, std::less<>> shapes;           ///< of single tensors
};

/// The fields of `config` that `architecture` can read, over the usual ones.
Json completed(const Json& config, const ArchitectureReading& reading, const std::string& source) {
  Json result = parse_json(kUsual, source);
  result["text_config"] = result;
  const std::set<std::string, std::less<>> unread(reading.unread.begin(), reading.unread.end());
  for (const auto& field : config.items()) {
    if (unread.contains(field.key())) continue;
    Json tried = result;
    tried[field.key()] = field.value();
    if (read_as(tried, source, reading.architecture).faults.empty()) result = std::move(tried);
  }
  return result;
}

void expect(Candidate& candidate, const Parameter& parameter) {
  const std::string kind = kind_of(parameter.name);
  candidate.shapes.emplace(parameter.name, parameter.shape);
  candidate.accepted.insert(kind);
  std::string stand_in = parameter.twin.empty() ? "" : kind_of(parameter.twin);
  if (parameter.expert) {
    stand_in = kind_of(parameter.expert->fused);
    candidate.accepted.insert(stand_in + ".weight");
  }
  if (!stand_in.empty()) {
    candidate.accepted.insert(stand_in);
    candidate.stand_ins.emplace(kind, stand_in);
  }
  if (!parameter.required) return;
  Kind& required = candidate.required[kind];
  ++required.count;
  if (required.shape.empty()) {
    for (int axis = 0; axis < parameter.shape.rank(); ++axis) required.shape.push_back(parameter.shape[axis]);
  }
}

class Comparer {
 public:
  Comparer(const Json& config, const std::string& source, const Checkpoint* weights)
      : config_(config), source_(source), weights_(weights) {
    if (weights == nullptr) return;
    for (const TensorInfo& tensor : weights->tensors()) {
      Kind& kind = found_[kind_of(without_scale(tensor.name))];
      if (kind.count++ == 0) kind.shape = tensor.shape;
    }
  }

  [[nodiscard]] Candidate candidate(const std::string& architecture) {
    Candidate result;
    result.reading = read_as(config_, source_, architecture);
    DecoderSpec spec = result.reading.faults.empty()
                           ? result.reading.spec
                           : read_as(completed(config_, result.reading, source_), source_, architecture).spec;
    spec.choose_names(
        [&](const std::string& name) { return weights_ != nullptr && weights_->find(name) != nullptr; });
    result.skipped = spec.skipped_tensors;
    result.skipped.insert(result.skipped.end(), {"*.input_scale", "*.activation_scale", "*.input",
                                                 "*.activation", "*rotary_emb.inv_freq"});
    const LayerContext context{
        .backend = *backend_, .communicator = alone_, .quant_spec = quant_spec_, .compute_dtype = spec.dtype};
    Decoder decoder(context, std::move(spec));
    for (const Parameter& parameter : decoder.parameters()) expect(result, parameter);
    return result;
  }

  /// From 0 to 1: the share of what is needed or there that is both.
  [[nodiscard]] double overlap(const Candidate& candidate) const {
    if (found_.empty()) return 0;
    int64_t matched = 0;
    for (const auto& [kind, required] : candidate.required) matched += is_there(candidate, kind) ? 1 : 0;
    const auto all = static_cast<double>(candidate.required.size() + unread(candidate).size());
    return static_cast<double>(matched) / all;
  }

  /// From 0 to 1: the share of the config's fields that are read, less where some are missing.
  [[nodiscard]] double fields_read(const Candidate& candidate) const {
    const auto idle = static_cast<size_t>(std::ranges::count_if(
        kIdleFields, [&](std::string_view field) { return config_.contains(std::string(field)); }));
    const size_t telling = config_.size() - std::min(idle, config_.size());
    if (telling == 0) return 0;
    const auto unread = static_cast<double>(telling_unread(candidate).size());
    return std::max(0.0, 1.0 - unread / static_cast<double>(telling)) /
           static_cast<double>(1 + candidate.reading.faults.size());
  }

  [[nodiscard]] static std::vector<std::string> telling_unread(const Candidate& candidate) {
    std::vector<std::string> fields;
    std::ranges::copy_if(candidate.reading.unread, std::back_inserter(fields), [](const std::string& field) {
      return std::ranges::find(kIdleFields, field) == kIdleFields.end();
    });
    return fields;
  }

  /// Kinds in the folder that the candidate does not ask for.
  [[nodiscard]] std::vector<std::pair<std::string, Kind>> unread(const Candidate& candidate) const {
    const std::vector<NamePattern> skip(candidate.skipped.begin(), candidate.skipped.end());
    std::vector<std::pair<std::string, Kind>> kinds;
    for (const auto& [kind, found] : found_) {
      const bool skipped =
          std::ranges::any_of(skip, [&](const NamePattern& pattern) { return pattern.matches(kind); });
      if (!skipped && !candidate.accepted.contains(kind)) kinds.emplace_back(kind, found);
    }
    return kinds;
  }

  /// Kinds that the candidate needs and of which the folder has none or, where the config is whole, too few.
  [[nodiscard]] std::vector<std::pair<std::string, Kind>> missing(const Candidate& candidate) const {
    std::vector<std::pair<std::string, Kind>> kinds;
    const bool whole = candidate.reading.faults.empty();
    for (const auto& [kind, required] : candidate.required) {
      const auto it = found_.find(kind);
      const int64_t found = it == found_.end() ? 0 : it->second.count;
      if (found == 0 ? is_there(candidate, kind) : !whole || found >= required.count) continue;
      kinds.emplace_back(kind, Kind{.count = required.count - found,
                                    .shape = whole ? required.shape : std::vector<int64_t>()});
    }
    return kinds;
  }

  /// Tensors of the candidate's names and of other shapes: by kind, of the first both shapes.
  [[nodiscard]] std::vector<Json> other_shapes(const Candidate& candidate) const {
    if (weights_ == nullptr || !candidate.reading.faults.empty()) return {};
    std::map<std::string, Json> kinds;
    for (const TensorInfo& tensor : weights_->tensors()) {
      const auto it = candidate.shapes.find(tensor.name);
      if (it == candidate.shapes.end() || tensor.shape_text() == it->second.to_string()) continue;
      Json& kind = kinds[kind_of(tensor.name)];
      if (kind.is_null()) {
        kind = {{"tensors", kind_of(tensor.name)},
                {"count", 0},
                {"expected", it->second.to_string()},
                {"found", tensor.shape_text()}};
      }
      kind["count"] = kind["count"].get<int64_t>() + 1;
    }
    std::vector<Json> list;
    for (auto& [name, kind] : kinds) list.push_back(std::move(kind));
    return list;
  }

 private:
  [[nodiscard]] bool is_there(const Candidate& candidate, const std::string& kind) const {
    if (found_.contains(kind)) return true;
    const auto other = candidate.stand_ins.find(kind);
    return other != candidate.stand_ins.end() &&
           (found_.contains(other->second) || found_.contains(other->second + ".weight"));
  }

  const Json& config_;
  const std::string& source_;
  const Checkpoint* weights_;
  MemoryLedger ledger_;
  std::unique_ptr<Backend> backend_ = make_backend({.device = "reference"}, ledger_);
  SingleCommunicator alone_;
  QuantSpec quant_spec_{QuantOptions{}};
  Kinds found_;
};

CutList kinds_list(const std::vector<std::pair<std::string, Kind>>& kinds) {
  CutList list;
  for (const auto& [name, kind] : kinds) {
    Json entry = {{"tensors", name}, {"count", kind.count}};
    if (!kind.shape.empty()) entry["shape"] = to_string(kind.shape);
    list.add(std::move(entry));
  }
  return list;
}

CutList plain_list(const std::vector<std::string>& texts) {
  CutList list;
  for (const std::string& text : texts) list.add(text);
  return list;
}

/// The nearest of the known architectures. Tensors say most: they are what must be read.
Candidate nearest_to(Comparer& comparer, const std::string& asked) {
  std::optional<Candidate> best;
  double best_score = -1;
  for (const std::string& name : known_architectures()) {
    Candidate candidate = comparer.candidate(name);
    const double score =
        2 * comparer.overlap(candidate) + comparer.fields_read(candidate) + name_similarity(asked, name);
    if (score <= best_score) continue;
    best_score = score;
    best = std::move(candidate);
  }
  check(best.has_value(), "there are known architectures");
  return *std::move(best);
}

std::string entry_text(const Json& entry) {
  if (entry.is_string()) return quote(entry.get<std::string>(), 60);
  const auto count = entry["count"].get<int64_t>();
  std::string text = quote(entry["tensors"].get<std::string>());
  if (count > 1) text += " (" + std::to_string(count) + " of them)";
  if (entry.contains("shape")) text += " " + entry["shape"].get<std::string>();
  if (entry.contains("expected"))
    text +=
        ": expected " + entry["expected"].get<std::string>() + ", found " + entry["found"].get<std::string>();
  return text;
}

std::string plain_text(const Json& entry) {
  return entry.get<std::string>();
}

/// A line for each entry under a heading; nothing for an empty list.
std::string section(const std::string& heading, const CutList& list,
                    std::string (*text_of)(const Json&) = entry_text) {
  if (list.count == 0) return {};
  std::string text = "\n" + heading + ":";
  for (const Json& entry : list.shown) text += "\n  " + text_of(entry);
  const auto hidden = list.count - static_cast<int64_t>(list.shown.size());
  return text + (hidden > 0 ? "\n  and " + std::to_string(hidden) + " more" : "");
}

Json list_json(const CutList& list) {
  return {{"count", list.count}, {"shown", list.shown}};
}

}  // namespace

void CutList::add(Json entry) {
  if (shown.size() < kShown) shown.push_back(std::move(entry));
  ++count;
}

ArchitectureComparison compare_architectures(const Json& config, const std::string& source,
                                             const std::string& asked, const Checkpoint* weights,
                                             const std::string& no_weights) {
  Comparer comparer(config, source, weights);
  const Candidate nearest = nearest_to(comparer, asked);
  ArchitectureComparison result;
  result.source = source;
  result.asked = asked;
  result.nearest = nearest.reading.architecture;
  result.known = known_architectures();
  for (const std::string& field : Comparer::telling_unread(nearest))
    result.unread_fields.add(field.substr(0, 200));
  result.field_faults = plain_list(nearest.reading.faults);
  if (weights == nullptr) {
    result.no_weights = no_weights;
    return result;
  }
  result.unread_tensors = kinds_list(comparer.unread(nearest));
  result.missing_tensors = kinds_list(comparer.missing(nearest));
  for (Json& entry : comparer.other_shapes(nearest)) result.other_shapes.add(std::move(entry));
  return result;
}

std::string ArchitectureComparison::message() const {
  std::string names;
  for (const std::string& name : known) names += (names.empty() ? "" : ", ") + name;
  const std::string text = source + ": architectures: " + quote(asked) +
                           " is not supported; the nearest known one is " + nearest + " (known: " + names +
                           ")";
  std::string differences =
      section("fields of the configuration that " + nearest + " does not read", unread_fields) +
      section("fields that " + nearest + " needs otherwise", field_faults, plain_text) +
      section("tensors that " + nearest + " does not read", unread_tensors) +
      section("tensors that " + nearest + " needs and the folder lacks", missing_tensors) +
      section("tensors of another shape than in " + nearest, other_shapes);
  if (!no_weights.empty()) {
    differences += "\nits tensors could not be compared: " + no_weights;
  } else if (differences.empty()) {
    differences = "\nits fields and tensors are those of " + nearest +
                  ": if it computes the same, it runs with that name in `architectures`";
  }
  return text + differences;
}

Json ArchitectureComparison::to_json() const {
  Json tensors = {{"compared", no_weights.empty()}};
  if (!no_weights.empty()) {
    tensors["why_not"] = no_weights;
  } else {
    tensors["unread"] = list_json(unread_tensors);
    tensors["missing"] = list_json(missing_tensors);
    tensors["other_shapes"] = list_json(other_shapes);
  }
  return {{"architecture", asked},
          {"supported", false},
          {"nearest", nearest},
          {"known", known},
          {"config", {{"unread", list_json(unread_fields)}, {"faults", list_json(field_faults)}}},
          {"tensors", std::move(tensors)}};
}

}  // namespace octet
