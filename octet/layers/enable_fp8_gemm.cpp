// SPDX-License-Identifier: Apache-2.0
#include "octet/layers/enable_fp8_gemm.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "octet/base/faults.h"

namespace octet {
namespace {

/// One linear, wrapped or not, and all places that hold it.
struct Found {
  std::shared_ptr<LinearModule> linear;
  std::vector<std::string> names;                       // the first first
  std::vector<std::pair<Module*, std::string>> places;  // parent and child's name; none for a root
};

/// All linears of a tree, each object once, in the order of their first names.
class Finder {
 public:
  void visit(const std::shared_ptr<Module>& module, const std::string& name) {
    if (auto linear = std::dynamic_pointer_cast<LinearModule>(module)) {
      const auto [place, fresh] = index_.emplace(module.get(), found_.size());
      if (fresh) found_.push_back({std::move(linear), {}, {}});
      found_[place->second].names.push_back(name);
      return;  // what is inside a linear belongs to it
    }
    if (!visited_.insert(module.get()).second) return;
    for (const Module::Child& child : module->children()) {
      visit(child.module, name.empty() ? child.name : name + "." + child.name);
      if (const auto place = index_.find(child.module.get()); place != index_.end())
        found_[place->second].places.emplace_back(module.get(), child.name);
    }
  }
  [[nodiscard]] std::vector<Found> take() { return std::move(found_); }

 private:
  std::vector<Found> found_;
  std::map<const Module*, size_t> index_;
  std::set<const Module*> visited_;
};

std::vector<Found> find_linears(const std::shared_ptr<Module>& root) {
  Finder finder;
  finder.visit(root, "");
  return finder.take();
}

std::shared_ptr<DenseLinear> dense_of(const Found& found) {
  return std::dynamic_pointer_cast<DenseLinear>(found.linear);
}

/// Why a parent refuses an Fp8Linear in the place of this linear; empty when none does.
std::string refusal_of(const Found& found) {
  const Fp8Linear probe(dense_of(found), {.storage = Fp8SourceStorage::kKeep, .materialize_on_wrap = false});
  for (const auto& [parent, name] : found.places) {
    if (std::string reason = parent->refusal(name, probe); !reason.empty()) return reason;
  }
  return {};
}

void check_weights(const std::vector<Found>& found) {
  Faults faults;
  for (const Found& each : found) {
    const auto linear = dense_of(each);
    const int64_t count = count_not_finite(linear->backend(), linear->weight()->tensor.view());
    if (count == 0) continue;
    faults.add(
        "the weight of '" + each.names.front() + "' has " + std::to_string(count) +
        " values that are NaN or infinite; FP8 has no scale for them: mend it, or leave the layer out");
  }
  faults.throw_if_any<ArgumentError>("enable_fp8_gemm");
}

/// The same linears and places in the copy of a tree.
void move_to_copies(std::vector<Found>& found, const ModuleCopies& copies) {
  for (Found& each : found) {
    each.linear = std::dynamic_pointer_cast<LinearModule>(copies.at(each.linear.get()));
    for (auto& [parent, name] : each.places) parent = copies.at(parent).get();
  }
}

std::string why_not_wrapped(const Found& found) {
  if (dense_of(found) == nullptr) return "it is no DenseLinear";
  const std::string refusal = refusal_of(found);
  return refusal.empty() ? "enable_fp8_gemm was not asked to" : refusal;
}

/// `counted` holds the codes and source weights of the entries before.
Fp8ReportEntry entry_of(const Found& found, std::set<const void*>& counted) {
  const auto fp8 = std::dynamic_pointer_cast<Fp8Linear>(found.linear);
  const auto dense = dense_of(found);
  Fp8ReportEntry entry{.names = found.names, .wrapped = fp8 != nullptr, .reason = {}};
  const auto count = [&](const auto& part, auto&& bytes_of) {
    if (part != nullptr && counted.insert(part.get()).second) entry.bytes += bytes_of(*part);
  };
  const auto source_bytes = [](const SourceWeight& source) { return source.tensor.bytes(); };
  if (fp8 != nullptr) {
    count(fp8->fp8_weight(), [](const QuantMatrix& codes) { return codes.bytes(); });
    count(fp8->source(), source_bytes);
  } else if (dense != nullptr) {
    count(dense->weight(), source_bytes);
  }
  const bool shares = fp8 != nullptr && entry.bytes == 0;
  if (fp8 == nullptr) entry.reason = why_not_wrapped(found);
  if (shares) entry.reason = "shares the weight of an earlier layer";
  entry.bytes_16bit = shares ? 0 : 2 * found.linear->in_features() * found.linear->out_features();
  return entry;
}

}  // namespace

std::shared_ptr<Module> enable_fp8_gemm(std::shared_ptr<Module> root, const Fp8GemmOptions& options,
                                        const ModuleFilter& filter, bool inplace) {
  if (root == nullptr) throw ArgumentError("enable_fp8_gemm: expected a module, found none");
  options.validate();
  std::vector<Found> found = find_linears(root);
  if (found.empty()) throw ArgumentError("enable_fp8_gemm: the tree has no linear: there is nothing to wrap");
  // All questions come before the first change.
  std::erase_if(found, [&](const Found& each) {
    const auto linear = dense_of(each);
    return linear == nullptr || (filter && !filter(each.names.front(), *linear)) || !refusal_of(each).empty();
  });
  if (options.materialize_on_wrap && options.serves_cpu()) check_weights(found);
  if (!inplace) {
    const ModuleCopies copies = copy_tree(root);
    move_to_copies(found, copies);
    root = copies.at(root.get());
  }
  for (Found& each : found) {
    const auto wrapper = std::make_shared<Fp8Linear>(dense_of(each), options);
    for (const auto& [parent, name] : each.places) parent->replace_child(name, wrapper);
    if (each.linear == root) root = wrapper;
    each.linear.reset();  // the tree's last hold on a weight that is not kept
  }
  return root;
}

std::vector<Fp8ReportEntry> fp8_report(const std::shared_ptr<Module>& root) {
  if (root == nullptr) throw ArgumentError("fp8_report: expected a module, found none");
  std::vector<Fp8ReportEntry> entries;
  std::set<const void*> counted;
  for (const Found& each : find_linears(root)) entries.push_back(entry_of(each, counted));
  return entries;
}

}  // namespace octet
