// SPDX-License-Identifier: Apache-2.0
#include "octet/loading/push_session.h"

#include <algorithm>
#include <cstring>

#include "octet/base/process_memory.h"
#include "octet/loading/piece_values.h"
#include "octet/loading/weight_groups.h"
#include "octet/loading/weight_records.h"
#include "octet/quant/name_pattern.h"

namespace octet {
namespace {

/// Tensors that a caller hands in, by description only.
class ListSource final : public WeightSource {
 public:
  explicit ListSource(std::vector<SourceTensor> tensors) : tensors_(std::move(tensors)) {
    for (size_t i = 0; i < tensors_.size(); ++i) tensors_[i].index = i;
  }
  [[nodiscard]] std::string describe() const override { return "pushed weights"; }
  [[nodiscard]] const std::vector<SourceTensor>& tensors() const override { return tensors_; }
  void read_rows(const SourceTensor& /*tensor*/, int64_t /*begin*/, int64_t /*end*/,
                 std::span<std::byte> /*into*/) const override {
    throw ArgumentError("pushed weights cannot be read");
  }

 private:
  std::vector<SourceTensor> tensors_;
};

bool matches_any(const std::vector<std::string>& patterns, const std::string& name) {
  return std::any_of(patterns.begin(), patterns.end(),
                     [&](const std::string& pattern) { return NamePattern(pattern).matches(name); });
}

}  // namespace

struct PushSession::Group {
  std::vector<Parameter> parameters;
  std::deque<Member> members;
  std::vector<Waiting> waiting;
  bool all_announced = false;
  bool bound = false;
  std::unique_ptr<ListSource> source;
  Bindings bindings;
};

PushSession::PushSession(Backend& backend, std::span<const Parameter> parameters, const LoadOptions& options,
                         std::span<const SourceTensor> announced)
    : backend_(backend),
      options_(options),
      pending_(backend.ledger(), options.max_pending_bytes),
      storage_(make_storage(options.into, backend)),
      meter_(backend.ledger(), options.progress, 0, 0) {
  backend.ledger().restart_peak();
  held_before_ = backend.ledger().current();
  rss_before_ = process_memory().resident_bytes;
  std::unordered_map<const void*, Group*> by_target;
  for (const Parameter& parameter : parameters) add_parameter(parameter, by_target);
  for (Group& group : groups_) {
    for (size_t i = 0; i < group.members.size(); ++i) {
      const Parameter& parameter = group.parameters[i];
      group.members[i].parameter = &parameter;
      for (const std::string& name : {parameter.name, parameter.twin}) {
        if (name.empty()) continue;
        add_entry(name, group, i, Use::kWeight);
        if (parameter.shape.rank() != 2) continue;
        add_entry(name + "_scale", group, i, Use::kScales);
        add_entry(name + "_scale_inv", group, i, Use::kScales);
      }
    }
  }
  for (const SourceTensor& tensor : announced) announce(tensor);
  for (Group& group : groups_) {
    for (Member& member : group.members) member.weight_announced = member.weight != nullptr;
    group.all_announced = std::all_of(group.members.begin(), group.members.end(),
                                      [](const Member& member) { return member.weight != nullptr; });
  }
}

PushSession::~PushSession() {
  abandon();
}

void PushSession::add_parameter(const Parameter& parameter,
                                std::unordered_map<const void*, Group*>& by_target) {
  const void* key =
      std::visit([](auto* target) { return static_cast<const void*>(target); }, parameter.destination);
  Group*& group = by_target[key];
  if (group == nullptr) group = &groups_.emplace_back();
  group->parameters.push_back(parameter);
  group->members.emplace_back();
}

void PushSession::add_entry(const std::string& name, Group& group, size_t member, Use use) {
  if (by_name_.contains(name)) return;  // two layers share the tensor of a name only through a twin
  entries_.push_back({.name = name, .group = &group, .member = member, .use = use});
  by_name_.emplace(entries_.back().name, &entries_.back());
}

PushSession::Entry* PushSession::find(std::string_view name) {
  const auto it = by_name_.find(name);
  return it == by_name_.end() ? nullptr : it->second;
}

void PushSession::announce(const SourceTensor& tensor) {
  Entry* entry = find(tensor.name);
  if (entry == nullptr) return;
  entry->tensor = tensor;
  Member& member = entry->group->members[entry->member];
  if (entry->use == Use::kScales) {
    member.scales = entry;
  } else if (member.weight == nullptr) {
    member.weight = entry;
  } else if (entry->name == member.parameter->name) {
    member.copy = std::exchange(member.weight, entry);
  } else {
    member.copy = entry;
  }
}

void PushSession::note_stranger(const TensorPiece& piece) {
  const std::scoped_lock lock(mutex_);
  if (!strangers_.insert(piece.name).second) return;
  const SourceTensor tensor = description_of(piece);
  WeightRecord record;
  record.name = tensor.name;
  record.file = tensor.file;
  record.group = weight_group(tensor.name);
  record.use = matches_any(options_.skip, tensor.name) ? TensorUse::kSkipped : TensorUse::kUnused;
  record.source_dtype = tensor.dtype;
  record.shape = tensor.shape;
  record.elements = tensor.elements();
  stranger_records_.push_back(std::move(record));
}

void PushSession::push(const TensorPiece& piece) {
  const std::shared_lock phase(phase_);
  if (finished_) throw ArgumentError("tensor " + quote(piece.name) + ": pushed when the load was over");
  if (meter_.cancelled()) throw Interrupted("loading was stopped");
  const Rectangle place = place_of(piece);
  Entry* entry = find(piece.name);
  if (entry == nullptr) return note_stranger(piece);
  bool held = false;
  const std::vector<Waiting> waited = meet(*entry, piece, place, held);
  for (const Waiting& other : waited) fill(*other.entry, other.place, other.bytes.span());
  if (!held) fill(*entry, place, piece.bytes);
  meter_.add_read(static_cast<int64_t>(piece.bytes.size()));
  meter_.tick();
}

bool PushSession::can_bind(const Group& group) const {
  bool any_real = false;
  bool any_fp8 = false;
  bool all_known = true;
  for (const Member& member : group.members) {
    if (member.weight == nullptr) {
      all_known = false;
      continue;
    }
    const bool fp8 = is_fp8(member.weight->tensor->dtype);
    any_real = any_real || !fp8;
    any_fp8 = any_fp8 || fp8;
    if (fp8 && member.scales == nullptr && !group.all_announced) all_known = false;
  }
  return any_fp8 ? all_known : any_real;
}

/// Enters what a piece says of its tensor; throws when that is not what was known.
void PushSession::see(Entry& entry, const TensorPiece& piece) {
  Group& group = *entry.group;
  Member& member = group.members[entry.member];
  if (entry.tensor) {
    if (entry.tensor->dtype == piece.dtype && entry.tensor->shape == piece.shape) return;
    throw ArgumentError("tensor " + quote(piece.name) + ": a piece says " +
                        std::string(to_string(piece.dtype)) + " " + to_string(piece.shape) + ", known was " +
                        std::string(to_string(entry.tensor->dtype)) + " " + to_string(entry.tensor->shape));
  }
  if (entry.use == Use::kWeight && member.weight == nullptr && group.bound) {
    const SourceTensor& guess = *member.filling->piece().source;
    if (guess.dtype != piece.dtype || guess.shape != piece.shape) {
      throw FormatError(
          "tensor " + quote(piece.name) + ": found " + std::string(to_string(piece.dtype)) + " " +
          to_string(piece.shape) + ", expected " + std::string(to_string(guess.dtype)) + " " +
          to_string(guess.shape) +
          " like the tensors beside it in its matrix; announce the tensors at the beginning where "
          "they differ");
    }
  }
  entry.tensor = description_of(piece);
  if (entry.use == Use::kScales) {
    if (!group.bound) member.scales = &entry;
  } else if (member.weight == nullptr) {
    member.weight = &entry;
  } else {
    member.copy = &entry;
  }
}

std::vector<PushSession::Waiting> PushSession::meet(Entry& entry, const TensorPiece& piece,
                                                    const Rectangle& place, bool& held) {
  const std::scoped_lock lock(mutex_);
  Group& group = *entry.group;
  Member& member = group.members[entry.member];
  const auto before = std::tuple(entry.tensor, member.weight, member.copy, member.scales);
  std::vector<Waiting> waited;
  try {
    see(entry, piece);
    if (!group.bound && can_bind(group)) bind(group);
    if (!entry.pushed)
      entry.pushed = std::make_unique<PushedTensor>(entry.tensor->rows(), entry.tensor->cols());
    if (group.bound) {
      waited = std::move(group.waiting);
      group.waiting.clear();
    } else {
      Waiting waiting{
          .entry = &entry,
          .place = place,
          .bytes = HeldBytes(pending_, static_cast<int64_t>(piece.bytes.size()), piece.name,
                             "values in FP8 wait for their scales: push these first, or announce the "
                             "tensors at the beginning")};
      if (!piece.bytes.empty())
        std::memcpy(waiting.bytes.span().data(), piece.bytes.data(), piece.bytes.size());
      group.waiting.push_back(std::move(waiting));
      held = true;
    }
  } catch (...) {
    std::tie(entry.tensor, member.weight, member.copy, member.scales) = before;
    throw;
  }
  entry.pieces_came = true;
  return waited;
}

std::vector<SourceTensor> PushSession::tensors_of(const Group& group) const {
  DType usual = DType::kBF16;
  for (const Member& member : group.members) {
    if (member.weight != nullptr) usual = member.weight->tensor->dtype;
  }
  std::vector<SourceTensor> tensors;
  for (const Member& member : group.members) {
    if (member.weight != nullptr) {
      tensors.push_back(*member.weight->tensor);
    } else {
      SourceTensor guess{
          .name = member.parameter->name, .dtype = usual, .shape = {}, .file = "pushed", .index = 0};
      for (int axis = 0; axis < member.parameter->shape.rank(); ++axis)
        guess.shape.push_back(member.parameter->shape[axis]);
      tensors.push_back(std::move(guess));
    }
    if (member.scales != nullptr) tensors.push_back(*member.scales->tensor);
  }
  return tensors;
}

void PushSession::bind(Group& group) {
  auto source = std::make_unique<ListSource>(tensors_of(group));
  LoadOptions options = options_;
  options.peers = nullptr;
  Bindings bindings = bind_parameters(group.parameters, *source, options, load_target(backend_));
  check(bindings.destinations.size() == 1, "the members of a group share their destination");
  const QuantMatrixView view = storage_->take(bindings.destinations.front());
  began_writing_ = true;
  group.source = std::move(source);
  group.bindings = std::move(bindings);
  for (const Piece& piece : group.bindings.pieces) {
    const auto index = static_cast<size_t>(piece.parameter - group.parameters.data());
    group.members[index].filling = std::make_unique<PushedWeight>(backend_, pending_, piece, view);
  }
  group.bound = true;
}

void PushSession::fill(Entry& entry, const Rectangle& place, std::span<const std::byte> bytes) {
  Member& member = entry.group->members[entry.member];
  if (entry.use == Use::kScales) {
    const SourceTensor* scales = member.filling->piece().scales;
    if (scales != nullptr && scales->name == entry.name)
      return member.filling->push_scales(*entry.pushed, place, bytes);
    TensorPiece stranger;
    stranger.name = entry.name;
    stranger.dtype = entry.tensor->dtype;
    stranger.shape = entry.tensor->shape;
    return note_stranger(stranger);
  }
  if (member.weight == &entry) {
    member.filling->push(*entry.pushed, place, bytes);
  } else if (!entry.pushed->add(place, [] {})) {
    return;
  }
  if (!member.parameter->twin.empty() && is_real(entry.tensor->dtype))
    entry.pushed->add_fingerprint(place, entry.tensor->cols(), bytes, entry.tensor->dtype);
}

/// What waited to the end has all that it will get.
void PushSession::bind_the_rest() {
  for (Group& group : groups_) {
    const bool whole = std::all_of(group.members.begin(), group.members.end(), [](const Member& member) {
      return member.weight != nullptr && member.weight->pieces_came;
    });
    if (group.bound || !whole) continue;
    bind(group);
    const std::vector<Waiting> waited = std::move(group.waiting);
    group.waiting.clear();
    for (const Waiting& waiting : waited) fill(*waiting.entry, waiting.place, waiting.bytes.span());
  }
}

void PushSession::collect_faults(const Entry& entry, Faults& faults) const {
  if (!entry.pushed) return;
  const std::string name = "tensor " + quote(entry.name) + ": ";
  if (entry.pushed->twice())
    faults.add(name + to_string(*entry.pushed->twice()) + " came, in part or whole, twice");
  if (const auto gap = entry.pushed->coverage().first_gap()) {
    const Coverage& coverage = entry.pushed->coverage();
    faults.add(name + std::to_string(coverage.covered()) + " of " + std::to_string(entry.tensor->elements()) +
               " values came, first missing are " + to_string(*gap));
  }
}

void PushSession::collect_copy_faults(const Member& member, Faults& faults) const {
  if (member.copy == nullptr || !member.copy->pieces_came) return;
  const Entry& copy = *member.copy;
  collect_faults(copy, faults);
  const bool comparable = is_real(copy.tensor->dtype) && is_real(member.weight->tensor->dtype) &&
                          copy.tensor->shape == member.weight->tensor->shape;
  if (comparable && copy.pushed->fingerprint() == member.weight->pushed->fingerprint()) return;
  const std::string difference =
      quote(member.weight->name) + " and " + quote(copy.name) + " are one table in this model but differ";
  if (member.weight_announced) {
    if (options_.warn) options_.warn(difference + "; the first is used for both");
    return;
  }
  faults.add(difference + ", and which is used would depend on their order: push one of them");
}

void PushSession::collect_faults(const Group& group, Faults& faults) const {
  const bool came = std::any_of(group.members.begin(), group.members.end(), [](const Member& member) {
    return member.weight != nullptr && member.weight->pieces_came;
  });
  if (!came && options_.partial) return;
  for (const Member& member : group.members) {
    if (member.weight == nullptr || !member.weight->pieces_came) {
      if (member.parameter->required) {
        faults.add("missing tensor " + quote(member.parameter->name) + ", expected with shape " +
                   member.parameter->shape.to_string());
      }
      continue;
    }
    if (!member.filling) continue;
    collect_faults(*member.weight, faults);
    collect_copy_faults(member, faults);
    const Piece& piece = member.filling->piece();
    if (piece.scales != nullptr) {
      if (!member.scales->pieces_came) faults.add("missing tensor " + quote(member.scales->name));
      collect_faults(*member.scales, faults);
    }
    if (member.filling->scales_fault()) faults.add(*member.filling->scales_fault());
    const DType stored = group.bindings.destinations.front().spec.dtype;
    if (const auto fault = value_fault(piece, member.filling->result(), stored, options_.allow_nonfinite))
      faults.add(*fault);
  }
}

void PushSession::check_input_scales(Faults& faults) const {
  for (const Group& group : groups_) {
    if (!group.bound) continue;
    const Destination& destination = group.bindings.destinations.front();
    auto* const* matrix = std::get_if<StoredMatrix*>(&destination.target);
    if (matrix == nullptr || !is_fp8(destination.spec.dtype)) continue;
    for (StoredVector& scale : (*matrix)->input_scales) {
      if (storage_->view_of(scale).data == nullptr)
        faults.add("no tensor " + quote(scale.name) +
                   " for a matrix that is stored in FP8 (--activation-scheme static)");
    }
  }
}

std::vector<InputScale> PushSession::found_input_scales() const {
  std::vector<Destination> destinations;
  for (const Group& group : groups_) {
    if (group.bound) destinations.push_back(group.bindings.destinations.front());
  }
  return input_scales(backend_, *storage_, destinations, "pushed weights");
}

void PushSession::commit(std::span<const InputScale> scales) noexcept {
  finished_ = true;
  storage_->commit();
  for (const InputScale& input : scales) input.matrix->input_scale = input.scale;
  mark_finite_codes();
}

void PushSession::mark_finite_codes() noexcept {
  for (const Group& group : groups_) {
    if (!group.bound) continue;
    const bool finite = std::all_of(group.members.begin(), group.members.end(), [](const Member& member) {
      return member.filling && member.filling->piece().kind == PieceKind::kQuantize &&
             member.filling->result().nonfinite == 0;
    });
    auto* const* matrix = std::get_if<StoredMatrix*>(&group.bindings.destinations.front().target);
    if (matrix != nullptr && finite) (*matrix)->matrix.set_codes_finite();
  }
}

LoadReport PushSession::finish(const std::function<void(const LoadReport&)>& last) {
  const std::scoped_lock phase(phase_);
  if (finished_) throw ArgumentError("a load is finished once");
  LoadReport result;
  try {
    if (meter_.cancelled()) throw Interrupted("loading was stopped");
    bind_the_rest();
    Faults faults;
    for (const Group& group : groups_) collect_faults(group, faults);
    if (faults.empty()) check_input_scales(faults);
    if (!faults.empty()) {
      for (const WeightRecord& record : stranger_records_) {
        if (record.use == TensorUse::kUnused)
          faults.add("no parameter asks for tensor " + quote(record.name));
      }
    }
    faults.throw_if_any<FormatError>("pushed weights");
    const std::vector<InputScale> scales = found_input_scales();
    result = report();
    last(result);
    commit(scales);
  } catch (...) {
    finished_ = true;
    for (Group& group : groups_) group.waiting.clear();
    storage_->release();
    groups_.clear();
    throw;
  }
  groups_.clear();
  result.final_bytes = backend_.ledger().current() - held_before_;
  return result;
}

void PushSession::abandon() noexcept {
  const std::scoped_lock phase(phase_);
  if (!finished_) storage_->release();
  finished_ = true;
  groups_.clear();
}

LoadReport PushSession::report() const {
  LoadReport report;
  for (const Group& group : groups_) {
    for (const Member& member : group.members) {
      if (member.weight == nullptr) {
        if (!options_.partial) report.missing.push_back(member.parameter->name);
        continue;
      }
      if (member.copy == nullptr || !member.copy->pieces_came) continue;
      report.twins.push_back({.name = member.weight->name, .twin = member.copy->name});
    }
    if (!group.bound) continue;
    report.predicted_final_bytes += group.bindings.destinations.front().spec.bytes();
    std::vector<TileResult> results;
    for (const Piece& piece : group.bindings.pieces)
      results.push_back(
          group.members[static_cast<size_t>(piece.parameter - group.parameters.data())].filling->result());
    for (WeightRecord& record : weight_records(*group.source, group.bindings, results))
      report.weights.push_back(std::move(record));
  }
  for (const WeightRecord& record : stranger_records_) {
    report.weights.push_back(record);
    if (record.use == TensorUse::kUnused) report.unused.push_back(record.name);
  }
  report.predicted_peak_bytes = report.predicted_final_bytes + options_.max_pending_bytes;
  report.peak_bytes = backend_.ledger().peak() - held_before_;
  report.process_peak_rss_bytes = process_memory().peak_resident_bytes;
  report.process_rss_before_bytes = rss_before_;
  report.read_bytes = meter_.read_bytes();
  report.seconds = meter_.seconds();
  report.timeline = meter_.timeline();
  return report;
}

}  // namespace octet
