// SPDX-License-Identifier: Apache-2.0
#include "octet/loading/expert_source.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <map>
#include <optional>
#include <set>
#include <string_view>

#include "octet/base/checked_math.h"
#include "octet/base/error.h"
#include "octet/base/faults.h"
#include "octet/loading/binding.h"

namespace octet {
namespace {

/// Transposed matrices are read in strips of whole columns of this size, at least one column.
constexpr int64_t kStripBytes = int64_t{256} << 10;
constexpr std::string_view kWeight = ".weight";

std::string_view without_suffix(std::string_view name, std::string_view suffix) {
  if (name.ends_with(suffix)) name.remove_suffix(suffix.size());
  return name;
}

/// The number in "<experts>.<number>.…", if that is what the name is.
std::optional<int64_t> expert_number(std::string_view name, std::string_view experts) {
  if (!name.starts_with(experts) || name.size() <= experts.size() || name[experts.size()] != '.')
    return std::nullopt;
  name.remove_prefix(experts.size() + 1);
  int64_t number = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
  if (error != std::errc() || end == name.data() + name.size() || *end != '.') return std::nullopt;
  return number;
}

/// "model.layers.0.mlp.experts" of "model.layers.0.mlp.experts.7.up_proj.weight"; empty for other names.
std::string_view experts_of(std::string_view name) {
  constexpr std::string_view kMark = ".experts.";
  const auto at = name.find(kMark);
  return at == std::string_view::npos ? std::string_view() : name.substr(0, at + kMark.size() - 1);
}

std::string experts_text(int64_t count) {
  return std::to_string(count) + (count == 1 ? " expert" : " experts");
}

/// The configuration's number of experts beside that of the files, layer by layer.
void compare_counts(const WeightSource& source, std::span<const Parameter> parameters, Faults& faults) {
  std::map<std::string_view, std::pair<int64_t, int64_t>> layers;  // experts: expected, found
  for (const Parameter& parameter : parameters) {
    if (parameter.expert) layers[parameter.expert->experts] = {parameter.expert->count, 0};
  }
  for (const SourceTensor& tensor : source.tensors()) {
    const auto layer = layers.find(experts_of(tensor.name));
    if (layer == layers.end()) continue;
    const auto number = expert_number(tensor.name, layer->first);
    if (number) layer->second.second = std::max(layer->second.second, *number + 1);
  }
  for (const auto& [experts, counts] : layers) {
    const auto [expected, found] = counts;
    if (found == 0 || found == expected) continue;
    faults.add(quote(experts) + ": the configuration has " + experts_text(expected) + ", the files have " +
               experts_text(found));
  }
}

template <class T>
void scatter(const std::byte* strip, IndexRange strip_cols, int64_t strip_rows, IndexRange rows,
             int64_t first_col, int64_t width, std::byte* into) {
  for (int64_t c = strip_cols.begin; c < strip_cols.end; ++c) {
    const std::byte* from =
        strip + ((c - strip_cols.begin) * strip_rows + rows.begin) * static_cast<int64_t>(sizeof(T));
    std::byte* to = into + (c - first_col) * static_cast<int64_t>(sizeof(T));
    for (int64_t r = rows.begin; r < rows.end; ++r) {
      std::memcpy(to, from, sizeof(T));
      from += sizeof(T);
      to += width * static_cast<int64_t>(sizeof(T));
    }
  }
}

}  // namespace

bool has_experts(std::span<const Parameter> parameters) {
  return std::ranges::any_of(parameters, [](const Parameter& p) { return p.expert.has_value(); });
}

/// Makes the list of tensors to show.
struct ExpertSource::Builder {
  ExpertSource& self;
  Faults& faults;
  std::map<std::string_view, std::vector<const Parameter*>> fused = {};  // by the name of the fused tensor
  std::set<std::string_view> names = {};                                 // of the inner source
  std::map<std::string_view, bool> transposed = {};

  void build(std::span<const Parameter> parameters) {
    for (const Parameter& parameter : parameters) {
      if (parameter.expert) fused[parameter.expert->fused].push_back(&parameter);
    }
    for (const SourceTensor& tensor : self.inner_->tensors()) names.insert(tensor.name);
    // The layout of the scales follows that of the weights, wherever they stand.
    for (const SourceTensor& tensor : self.inner_->tensors()) {
      const auto* matrices = matrices_of(without_suffix(tensor.name, kWeight));
      if (matrices != nullptr) find_layout(tensor, *matrices);
    }
    for (const SourceTensor& tensor : self.inner_->tensors()) add(tensor);
  }

  /// nullptr where no parameter could be there, or each has a tensor of its own as well.
  const std::vector<const Parameter*>* matrices_of(std::string_view name) const {
    const auto found = fused.find(name);
    if (found == fused.end() || names.contains(found->second.front()->name)) return nullptr;
    return &found->second;
  }

  void find_layout(const SourceTensor& tensor, const std::vector<const Parameter*>& matrices) {
    const ExpertPlace& place_of = *matrices.front()->expert;
    const int64_t cols = matrices.front()->shape[1];
    if (tensor.shape.size() == 3 && tensor.shape[0] != place_of.count) {
      faults.add(place(tensor) + ": the configuration has " + experts_text(place_of.count) +
                 ", the tensor has " + experts_text(tensor.shape[0]));
      return;
    }
    const std::vector<int64_t> straight = {place_of.count, place_of.rows, cols};
    const std::vector<int64_t> turned = {place_of.count, cols, place_of.rows};
    if (tensor.shape != straight && tensor.shape != turned) {
      faults.add(place(tensor) + ": expected shape " + to_string(straight) + ", or transposed " +
                 to_string(turned) + ", found " + to_string(tensor.shape));
      return;
    }
    if (straight == turned) {
      faults.add(place(tensor) + ": shape " + to_string(tensor.shape) +
                 " does not tell whether the experts' matrices are transposed; save the checkpoint with one "
                 "tensor for each expert");
      return;
    }
    transposed[place_of.fused] = tensor.shape == turned;
  }

  void add(const SourceTensor& tensor) {
    show(tensor, {.inner = tensor.index});
    std::string_view name = tensor.name;
    std::string_view suffix;
    for (const std::string_view scales : {std::string_view("_scale"), std::string_view("_scale_inv")}) {
      if (name.ends_with(scales)) suffix = scales;
    }
    name = without_suffix(without_suffix(name, suffix), kWeight);
    const auto* matrices = matrices_of(name);
    const auto layout = transposed.find(name);
    if (matrices == nullptr || layout == transposed.end()) return;
    self.tensors_.back().split = true;
    for (const Parameter* parameter : *matrices) {
      if (suffix.empty()) {
        show_matrix(tensor, *parameter, layout->second);
      } else if (!show_scales(tensor, *parameter, suffix, layout->second)) {
        faults.add(place(tensor) + ": scales of shape " + to_string(tensor.shape) +
                   " cannot be divided among the matrices of " + experts_text(parameter->expert->count));
        break;
      }
    }
    self.parts_.back().last = true;
  }

  void show(SourceTensor tensor, const Part& part) {
    tensor.index = self.tensors_.size();
    self.tensors_.push_back(std::move(tensor));
    self.parts_.push_back(part);
  }

  void show_matrix(const SourceTensor& tensor, const Parameter& parameter, bool turned) {
    SourceTensor shown = tensor;
    shown.name = parameter.name;
    shown.shape = {parameter.shape[0], parameter.shape[1]};
    show(std::move(shown), {.inner = tensor.index,
                            .whole = false,
                            .transposed = turned,
                            .expert = parameter.expert->index,
                            .first_row = parameter.expert->first_row,
                            .rows = parameter.expert->rows,
                            .cols = parameter.shape[1]});
  }

  /// One scale for each expert, for each row of its part, or for each block: [E], [E, 1, 1], [E, rows, 1] or
  /// [E, row blocks, column blocks].
  bool show_scales(const SourceTensor& tensor, const Parameter& parameter, std::string_view suffix,
                   bool turned) {
    const ExpertPlace& expert = *parameter.expert;
    const std::vector<int64_t>& shape = tensor.shape;
    if (turned || shape.empty() || shape.size() > 3 || shape[0] != expert.count) return false;
    const int64_t grid_rows = shape.size() > 1 ? shape[1] : 1;
    const int64_t grid_cols = shape.size() > 2 ? shape[2] : 1;
    const bool one = grid_rows == 1 && grid_cols == 1;
    if (grid_rows == 0 || grid_rows > expert.rows) return false;
    const bool usual = ceil_div(expert.rows, kScaleBlock) == grid_rows;
    const int64_t block = usual ? kScaleBlock : expert.rows / grid_rows;
    // A member's scales are whole rows of the grid only if blocks end where the member begins and ends.
    const int64_t end = expert.first_row + parameter.shape[0];
    const bool whole = expert.first_row % block == 0 && (end % block == 0 || end == expert.rows) &&
                       ceil_div(expert.rows, block) == grid_rows;
    if (!one && !whole) return false;
    SourceTensor shown = tensor;
    shown.name = parameter.name + std::string(suffix);
    const int64_t rows = one ? 1 : ceil_div(parameter.shape[0], block);
    shown.shape = one ? std::vector<int64_t>{1} : std::vector<int64_t>{rows, grid_cols};
    show(std::move(shown), {.inner = tensor.index,
                            .whole = false,
                            .expert = expert.index,
                            .first_row = one ? 0 : expert.first_row / block,
                            .rows = grid_rows,
                            .cols = grid_cols});
    return true;
  }
};

ExpertSource::ExpertSource(std::unique_ptr<WeightSource> inner, std::span<const Parameter> parameters)
    : inner_(std::move(inner)) {
  Faults faults;
  compare_counts(*inner_, parameters, faults);
  Builder{.self = *this, .faults = faults}.build(parameters);
  faults.throw_if_any<FormatError>(inner_->describe());
}

void ExpertSource::read_rows(const SourceTensor& tensor, int64_t begin, int64_t end,
                             std::span<std::byte> into) const {
  const Part& part = parts_[tensor.index];
  if (part.whole) return inner_->read_rows(inner_tensor(part), begin, end, into);
  (void)read_block(tensor, {.begin = begin, .end = end}, {.begin = 0, .end = part.cols}, into);
}

int64_t ExpertSource::read_block(const SourceTensor& tensor, IndexRange rows, IndexRange cols,
                                 std::span<std::byte> into) const {
  const Part& part = parts_[tensor.index];
  if (part.whole) return inner_->read_block(inner_tensor(part), rows, cols, into);
  if (part.transposed) return read_transposed(part, rows, cols, into);
  // To the inner source a row is all of one expert.
  const IndexRange expert = {.begin = part.expert, .end = part.expert + 1};
  const auto element = [&](int64_t row, int64_t col) { return (part.first_row + row) * part.cols + col; };
  if (cols.size() == part.cols)
    return inner_->read_block(inner_tensor(part), expert,
                              {.begin = element(rows.begin, 0), .end = element(rows.end, 0)}, into);
  int64_t read = 0;
  const auto segment = static_cast<size_t>(cols.size() * dtype_size(tensor.dtype));
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    read += inner_->read_block(inner_tensor(part), expert,
                               {.begin = element(row, cols.begin), .end = element(row, cols.end)},
                               into.subspan(static_cast<size_t>(row - rows.begin) * segment, segment));
  }
  return read;
}

int64_t ExpertSource::read_transposed(const Part& part, IndexRange rows, IndexRange cols,
                                      std::span<std::byte> into) const {
  const SourceTensor& tensor = inner_tensor(part);
  const int64_t size = dtype_size(tensor.dtype);
  const IndexRange wanted = {.begin = part.first_row + rows.begin, .end = part.first_row + rows.end};
  const int64_t at_a_time = std::max<int64_t>(1, kStripBytes / (part.rows * size));
  std::vector<std::byte> strip(static_cast<size_t>(std::min(at_a_time, cols.size()) * part.rows * size));
  int64_t read = 0;
  for (int64_t c = cols.begin; c < cols.end; c += at_a_time) {
    const IndexRange some = {.begin = c, .end = std::min(cols.end, c + at_a_time)};
    const auto bytes = std::span(strip).first(static_cast<size_t>(some.size() * part.rows * size));
    read += inner_->read_block(tensor, {.begin = part.expert, .end = part.expert + 1},
                               {.begin = some.begin * part.rows, .end = some.end * part.rows}, bytes);
    const auto turn = size == 1 ? scatter<uint8_t> : size == 2 ? scatter<uint16_t> : scatter<uint32_t>;
    turn(bytes.data(), some, part.rows, wanted, cols.begin, cols.size(), into.data());
  }
  return read;
}

std::optional<FileExtent> ExpertSource::extent(const SourceTensor& tensor, IndexRange rows,
                                               IndexRange cols) const {
  const Part& part = parts_[tensor.index];
  if (part.whole) return inner_->extent(inner_tensor(part), rows, cols);
  const IndexRange expert = {.begin = part.expert, .end = part.expert + 1};
  if (part.transposed)
    return inner_->extent(inner_tensor(part), expert, {.begin = 0, .end = inner_tensor(part).cols()});
  const auto element = [&](int64_t row, int64_t col) { return (part.first_row + row) * part.cols + col; };
  return inner_->extent(inner_tensor(part), expert,
                        {.begin = element(rows.begin, cols.begin), .end = element(rows.end - 1, cols.end)});
}

bool ExpertSource::in_file_order(const SourceTensor& tensor) const {
  const Part& part = parts_[tensor.index];
  return !part.transposed && inner_->in_file_order(inner_tensor(part));
}

/// A part of a fused tensor shares pages with its neighbours: the whole is dropped with the last of them.
void ExpertSource::drop_cache(const SourceTensor& tensor) const {
  const Part& part = parts_[tensor.index];
  if (part.whole || part.last) inner_->drop_cache(inner_tensor(part));
}

}  // namespace octet
