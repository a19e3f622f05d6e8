// SPDX-License-Identifier: Apache-2.0
#include "octet/loading/binding.h"

#include <algorithm>
#include <set>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "octet/base/faults.h"
#include "octet/loading/destination_rules.h"
#include "octet/loading/shared_scales.h"
#include "octet/quant/name_pattern.h"

namespace octet {
namespace {

bool same_shape(std::span<const int64_t> found, const Shape& expected) {
  if (found.empty()) return expected.rank() == 1 && expected[0] == 1;  // a scalar is a vector of one
  if (found.size() != static_cast<size_t>(expected.rank())) return false;
  for (int axis = 0; axis < expected.rank(); ++axis) {
    if (found[static_cast<size_t>(axis)] != expected[axis]) return false;
  }
  return true;
}

IndexRange range_of(const std::optional<IndexRange>& cut, int64_t size) {
  return cut.value_or(IndexRange{.begin = 0, .end = size});
}

/// "X.weight" -> "X.qscale_weight": the scale in Mistral's own files.
std::string mistral_scale_name(const std::string& weight) {
  const size_t leaf = weight.rfind('.') + 1;
  return weight.substr(0, leaf) + "qscale_" + weight.substr(leaf);
}

class Binder {
 public:
  Binder(const WeightSource& source, const LoadOptions& options, const LoadTarget& target)
      : source_(source), options_(options), target_(target) {
    for (const SourceTensor& tensor : source.tensors()) by_name_.emplace(tensor.name, &tensor);
  }

  Bindings bind(std::span<const Parameter> parameters) {
    for (const Parameter& parameter : parameters) add(parameter);
    for (size_t i = 0; i < result_.destinations.size(); ++i) {
      resolve_destination(result_.destinations[i], result_.pieces,
                          {.compute_dtype = options_.compute_dtype, .weight_layout = target_.weight_layout},
                          faults_);
    }
    faults_.throw_if_any<FormatError>(source_.describe());
    check_input_scales();
    list_the_rest();
    sort_pieces();
    return std::move(result_);
  }

 private:
  /// A matrix that is in FP8 in the end takes static activations, and then each of its members needs its
  /// scale.
  void check_input_scales() const {
    Faults missing;
    for (const Destination& destination : result_.destinations) {
      auto* const* matrix = std::get_if<StoredMatrix*>(&destination.target);
      if (matrix == nullptr || !is_fp8(destination.spec.dtype)) continue;
      for (const StoredVector& scale : (*matrix)->input_scales) {
        const auto it = destinations_.find(&scale);
        if (it != destinations_.end() && result_.destinations[it->second].pieces.empty()) {
          missing.add("no tensor " + quote(scale.name) + " for a matrix that is stored in FP8");
        }
      }
    }
    missing.throw_if_any<ConfigError>(
        "--activation-scheme static needs the scale of every FP8 matrix's input; " + source_.describe() +
        " lacks some: take dynamic or none");
  }

  const SourceTensor* find(const std::string& name) const {
    const auto it = by_name_.find(name);
    return it == by_name_.end() ? nullptr : it->second;
  }

  void add(const Parameter& parameter) {
    const size_t destination = destination_of(parameter);
    Piece piece;
    piece.parameter = &parameter;
    piece.destination = destination;
    piece.source = find(parameter.name);
    const SourceTensor* twin = parameter.twin.empty() ? nullptr : find(parameter.twin);
    if (piece.source == nullptr) {
      piece.source = twin;
    } else {
      piece.twin = twin;
    }
    if (piece.source == nullptr) return note_missing(parameter);
    used_.insert(piece.source);
    if (piece.twin != nullptr) used_.insert(piece.twin);
    fit_shape(piece);
    fit_kind(piece);
    result_.destinations[destination].pieces.push_back(result_.pieces.size());
    result_.pieces.push_back(piece);
  }

  size_t destination_of(const Parameter& parameter) {
    const void* key =
        std::visit([](auto* target) { return static_cast<const void*>(target); }, parameter.destination);
    const auto [it, added] = destinations_.emplace(key, result_.destinations.size());
    if (added) {
      Destination destination;
      destination.target = parameter.destination;
      result_.destinations.push_back(std::move(destination));
    }
    return it->second;
  }

  void note_missing(const Parameter& parameter) {
    if (!parameter.required) {
      result_.absent.push_back(parameter.name);
      return;
    }
    std::string fault =
        "missing tensor " + quote(parameter.name) + ", expected with shape " + parameter.shape.to_string();
    if (!parameter.twin.empty()) fault += " (nor is there " + quote(parameter.twin) + ")";
    faults_.add(std::move(fault));
    result_.destinations[destination_of(parameter)].incomplete = true;
  }

  void fit_shape(Piece& piece) {
    const Parameter& parameter = *piece.parameter;
    const bool vector = result_.destinations[piece.destination].is_vector();
    check(parameter.shape.rank() == (vector ? 1 : 2),
          "a parameter is a vector or a matrix: " + parameter.name);
    piece.offset = parameter.offset;
    piece.full_rows = vector ? 1 : parameter.shape[0];
    piece.full_cols = vector ? parameter.shape[0] : parameter.shape[1];
    check(!vector || !parameter.slice.cols, "a vector is cut by its rows: " + parameter.name);
    const IndexRange rows = range_of(vector ? std::nullopt : parameter.slice.rows, piece.full_rows);
    const IndexRange cols = range_of(vector ? parameter.slice.rows : parameter.slice.cols, piece.full_cols);
    check(rows.begin >= 0 && rows.size() >= 0 && rows.end <= piece.full_rows && cols.begin >= 0 &&
              cols.size() >= 0 && cols.end <= piece.full_cols,
          "the slice of " + parameter.name + " lies outside of it");
    piece.first_row = rows.begin;
    piece.rows = rows.size();
    piece.first_col = cols.begin;
    piece.cols = cols.size();
    if (!same_shape(piece.source->shape, parameter.shape)) {
      faults_.add(place(*piece.source) + ": expected shape " + parameter.shape.to_string() + ", found " +
                  to_string(piece.source->shape));
    }
    if (piece.twin != nullptr) fit_twin(piece);
  }

  /// A second copy is never an error: one that cannot be compared value by value is told of and left alone.
  void fit_twin(Piece& piece) {
    const SourceTensor& twin = *piece.twin;
    std::string reason;
    if (!same_shape(twin.shape, piece.parameter->shape)) {
      reason = "shape " + to_string(twin.shape) + " instead of " + piece.parameter->shape.to_string();
    } else if (!is_real(twin.dtype) || !is_real(piece.source->dtype)) {
      reason = "dtype " + std::string(to_string(twin.dtype)) + " beside " +
               std::string(to_string(piece.source->dtype));
    }
    if (reason.empty()) return;
    for (const char* suffix : {"_scale", "_scale_inv"}) {
      if (const SourceTensor* scales = find(twin.name + suffix)) leave_alone(*scales);
    }
    leave_alone(twin);
    if (options_.warn) {
      options_.warn(place(twin) + " is a second copy of " + quote(piece.source->name) + " with " + reason +
                    ": neither used nor compared");
    }
    piece.twin = nullptr;
  }

  void leave_alone(const SourceTensor& tensor) {
    used_.insert(&tensor);
    result_.skipped.push_back(&tensor);
  }

  void fit_kind(Piece& piece) {
    const DType dtype = piece.source->dtype;
    auto* const* matrix = std::get_if<StoredMatrix*>(&piece.parameter->destination);
    const bool fp8_allowed = matrix != nullptr;
    if (!is_real(dtype) && !(fp8_allowed && is_fp8(dtype))) {
      faults_.add(place(*piece.source) + ": expected dtype F32, F16, BF16" +
                  (fp8_allowed ? ", F8_E4M3 or F8_E5M2" : "") + ", found " + std::string(to_string(dtype)));
      return;
    }
    if (is_fp8(dtype)) {
      piece.kind = PieceKind::kAdopt;
      find_scales(piece);
    } else if (matrix != nullptr && (*matrix)->rule.quantize) {
      piece.kind = PieceKind::kQuantize;
      piece.rule = (*matrix)->rule;
      piece.block = {.rows = kScaleBlock, .cols = kScaleBlock};
    }
    piece.shared_scales = covers_other_ranks(piece);
  }

  /// "<module>.weight_scale" and "<module>.weight_scale_inv" are both multipliers: x = scale * q.
  void find_scales(Piece& piece) {
    const SourceTensor* plain = find(piece.source->name + "_scale");
    if (plain == nullptr) plain = find(mistral_scale_name(piece.source->name));
    const SourceTensor* inverse = find(piece.source->name + "_scale_inv");
    if (plain != nullptr && inverse != nullptr) {
      faults_.add(place(*piece.source) + ": has both " + quote(plain->name) + " and " + quote(inverse->name) +
                  ", expected one of them");
      return;
    }
    piece.scales = plain != nullptr ? plain : inverse;
    if (piece.scales == nullptr) return;
    used_.insert(piece.scales);
    if (const auto fault = fit_scales(piece, options_.scale_block))
      faults_.add(place(*piece.scales) + ": " + *fault);
  }

  void list_the_rest() {
    std::vector<NamePattern> patterns(options_.skip.begin(), options_.skip.end());
    for (const SourceTensor& tensor : source_.tensors()) {
      if (used_.contains(&tensor) || tensor.split) continue;
      const bool skipped = std::any_of(patterns.begin(), patterns.end(), [&](const NamePattern& pattern) {
        return pattern.matches(tensor.name);
      });
      (skipped ? result_.skipped : result_.unused).push_back(&tensor);
    }
  }

  void sort_pieces() {
    std::vector<size_t> order(result_.pieces.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
      return std::pair(result_.pieces[a].source->index, a) < std::pair(result_.pieces[b].source->index, b);
    });
    std::vector<size_t> place_of(order.size());
    std::vector<Piece> sorted;
    for (size_t i = 0; i < order.size(); ++i) {
      place_of[order[i]] = i;
      sorted.push_back(result_.pieces[order[i]]);
    }
    for (Destination& destination : result_.destinations) {
      for (size_t& piece : destination.pieces) piece = place_of[piece];
    }
    result_.pieces = std::move(sorted);
  }

  const WeightSource& source_;
  const LoadOptions& options_;
  const LoadTarget& target_;
  std::unordered_map<std::string_view, const SourceTensor*> by_name_;
  std::unordered_map<const void*, size_t> destinations_;
  std::set<const SourceTensor*> used_;
  Bindings result_;
  Faults faults_;
};

}  // namespace

PieceRange next_batch(std::span<const Piece> pieces, size_t first) {
  // Enough for one loop, so that the threads seldom wait for each other.
  constexpr int64_t kBatchBytes = int64_t{256} << 20;
  int64_t bytes = 0;
  size_t last = first;
  while (last < pieces.size() && (last == first || bytes < kBatchBytes))
    bytes += pieces[last++].source->bytes();
  return {first, last};
}

std::string to_string(std::span<const int64_t> shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return text + "]";
}

std::string place(const SourceTensor& tensor) {
  return tensor.file + ": tensor " + quote(tensor.name);
}

const std::string& Destination::name() const {
  return std::visit([](auto* stored) -> const std::string& { return stored->name; }, target);
}

Bindings bind_parameters(std::span<const Parameter> parameters, const WeightSource& source,
                         const LoadOptions& options, const LoadTarget& target) {
  check(is_real(options.compute_dtype), "the compute dtype is F32, F16 or BF16");
  return Binder(source, options, target).bind(parameters);
}

}  // namespace octet
