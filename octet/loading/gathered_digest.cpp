// SPDX-License-Identifier: Apache-2.0
#include "octet/loading/gathered_digest.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "octet/base/checked_math.h"

namespace octet {
namespace {

constexpr int64_t kScaleBytes = sizeof(float);

/// What one rank holds of a tensor: numbers only, for they travel.
struct Part {
  int64_t present = 0;
  int64_t element_bytes = 0;
  int64_t scale_kind = 0;
  int64_t block_rows = 1;
  int64_t block_cols = 1;
  std::array<int64_t, 2> rows{};
  std::array<int64_t, 2> cols{};

  [[nodiscard]] bool has_row(int64_t row) const { return present != 0 && row >= rows[0] && row < rows[1]; }
  [[nodiscard]] int64_t width() const { return cols[1] - cols[0]; }
  /// Blocks of columns that its columns touch.
  [[nodiscard]] IndexRange blocks() const {
    return {.begin = cols[0] / block_cols, .end = ceil_div(cols[1], block_cols)};
  }
};

QuantMatrixView view_of_parameter(const Parameter& parameter) {
  if (auto* const* stored = std::get_if<StoredMatrix*>(&parameter.destination))
    return (*stored)->matrix.view();
  Tensor& tensor = std::get<StoredVector*>(parameter.destination)->tensor;
  if (tensor.empty()) return {};
  return {.data = tensor.view().data(),
          .dtype = tensor.view().dtype(),
          .rows = tensor.view().cols(),
          .cols = 1};  // a vector is a column, which is cut by its rows
}

Part part_of(const Parameter& parameter, const QuantMatrixView& view) {
  const bool matrix = parameter.shape.rank() == 2;
  const IndexRange rows = parameter.slice.rows.value_or(IndexRange{.begin = 0, .end = parameter.shape[0]});
  const IndexRange cols =
      parameter.slice.cols.value_or(IndexRange{.begin = 0, .end = matrix ? parameter.shape[1] : 1});
  Part part{.present = view.data != nullptr && rows.size() > 0 && cols.size() > 0 ? 1 : 0,
            .element_bytes = dtype_size(view.dtype),
            .scale_kind = static_cast<int64_t>(view.scale_kind),
            .rows = {rows.begin, rows.end},
            .cols = {cols.begin, cols.end}};
  if (part.present != 0 && view.scale_kind == ScaleKind::kGrid) {
    part.block_rows = view.part_of(parameter.offset).block_rows;
    part.block_cols = view.part_of(parameter.offset).block_cols;
  }
  return part;
}

class GatheredTensor {
 public:
  GatheredTensor(Backend& backend, Communicator& communicator, const Parameter& parameter)
      : backend_(backend),
        communicator_(communicator),
        parameter_(parameter),
        view_(view_of_parameter(parameter)),
        parts_(static_cast<size_t>(communicator.world_size())),
        sizes_(parts_.size()) {
    const Part own = part_of(parameter, view_);
    communicator.all_gather(std::as_bytes(std::span(&own, 1)), std::as_writable_bytes(std::span(parts_)));
  }

  /// Whether any rank holds something of it.
  [[nodiscard]] bool present() const {
    return std::ranges::any_of(parts_, [](const Part& part) { return part.present != 0; });
  }

  void add_to(Sha256& sha) {
    const Part& any = *std::ranges::find_if(parts_, [](const Part& part) { return part.present != 0; });
    add_elements(sha);
    const auto kind = static_cast<ScaleKind>(any.scale_kind);
    if (kind == ScaleKind::kRow) add_row_scales(sha);
    if (kind == ScaleKind::kGrid) {
      for (int64_t row = 0; row < parameter_.shape[0]; row += any.block_rows) add_band(row, any, sha);
    }
  }

 private:
  [[nodiscard]] int64_t full_cols() const { return parameter_.shape.rank() == 2 ? parameter_.shape[1] : 1; }
  [[nodiscard]] bool mine(size_t rank) const { return static_cast<int>(rank) == communicator_.rank(); }
  [[nodiscard]] int64_t local_row(int64_t row) const {
    return parameter_.offset + row - parts_[static_cast<size_t>(communicator_.rank())].rows[0];
  }

  /// The ranks that together hold a row, left to right, each the lowest of those which hold the same.
  [[nodiscard]] std::vector<size_t> holders(int64_t row) const {
    std::vector<size_t> ranks;
    for (int64_t col = 0; col < full_cols();) {
      const auto next = std::ranges::find_if(
          parts_, [&](const Part& part) { return part.has_row(row) && part.cols[0] == col; });
      check(next != parts_.end(), "the ranks together hold every weight whole");
      ranks.push_back(static_cast<size_t>(next - parts_.begin()));
      col = next->cols[1];
    }
    return ranks;
  }

  /// Rank 0: what the ranks gave, one after another.
  std::span<const std::byte> gather(std::span<const std::byte> own) {
    int64_t total = 0;
    for (const int64_t size : sizes_) total += size;
    all_.resize(communicator_.rank() == 0 ? static_cast<size_t>(total) : 0);
    communicator_.gather(own, sizes_, all_);
    return all_;
  }

  void add_elements(Sha256& sha) {
    for (int64_t row = 0; row < parameter_.shape[0];) {
      const std::vector<size_t> ranks = holders(row);
      const int64_t row_bytes = full_cols() * parts_[ranks.front()].element_bytes;
      int64_t end = std::min(parameter_.shape[0], row + std::max<int64_t>(1, kDigestBytesAtOnce / row_bytes));
      for (const size_t rank : ranks) end = std::min(end, parts_[rank].rows[1]);
      add_rows(row, end, ranks, sha);
      row = end;
    }
  }

  void add_rows(int64_t row, int64_t end, const std::vector<size_t>& ranks, Sha256& sha) {
    std::ranges::fill(sizes_, 0);
    own_.clear();
    for (const size_t rank : ranks) {
      sizes_[rank] = (end - row) * parts_[rank].width() * parts_[rank].element_bytes;
      if (mine(rank)) read_own(row, end);
    }
    const std::span<const std::byte> all = gather(own_);
    if (communicator_.rank() != 0) return;
    std::vector<size_t> places(parts_.size());
    size_t place = 0;
    for (size_t rank = 0; rank < parts_.size(); ++rank)
      places[rank] = std::exchange(place, place + static_cast<size_t>(sizes_[rank]));
    for (int64_t r = row; r < end; ++r) {
      for (const size_t rank : ranks) {
        const auto bytes = static_cast<size_t>(parts_[rank].width() * parts_[rank].element_bytes);
        sha.add(all.subspan(places[rank], bytes));
        places[rank] += bytes;
      }
    }
  }

  void read_own(int64_t row, int64_t end) {
    const Shape shape{end - row, view_.cols};
    own_.resize(static_cast<size_t>(shape.elements() * dtype_size(view_.dtype)));
    if (parameter_.shape.rank() == 2) {
      backend_.read_rows(view_, local_row(row), {own_.data(), view_.dtype, shape});
    } else {
      std::memcpy(own_.data(), view_.element(local_row(row), 0), own_.size());
    }
  }

  /// The scales of rows are the same on all ranks that hold a part of them.
  void add_row_scales(Sha256& sha) {
    for (int64_t row = 0; row < parameter_.shape[0];) {
      const size_t rank = holders(row).front();
      const int64_t end = std::min(parts_[rank].rows[1], row + kDigestBytesAtOnce / kScaleBytes);
      std::ranges::fill(sizes_, 0);
      sizes_[rank] = (end - row) * kScaleBytes;
      std::span<const std::byte> own;
      if (mine(rank)) {
        own = std::as_bytes(std::span(view_.scales + local_row(row), static_cast<size_t>(end - row)));
      }
      sha.add(gather(own));
      row = end;
    }
  }

  /// The scales of the blocks that begin in `row`. A block on several ranks has its scale on each of them:
  /// the one to the right gives it again.
  void add_band(int64_t row, const Part& grid, Sha256& sha) {
    const std::vector<size_t> ranks = holders(row);
    std::ranges::fill(sizes_, 0);
    std::vector<float> own;
    for (const size_t rank : ranks) {
      sizes_[rank] = parts_[rank].blocks().size() * kScaleBytes;
      for (int64_t block = parts_[rank].blocks().begin; mine(rank) && block < parts_[rank].blocks().end;
           ++block) {
        const int64_t col = std::max(block * grid.block_cols, parts_[rank].cols[0]) - parts_[rank].cols[0];
        own.push_back(view_.scale(local_row(row), col));
      }
    }
    const std::span<const std::byte> all = gather(std::as_bytes(std::span(own)));
    if (communicator_.rank() != 0) return;
    std::vector<float> scales(static_cast<size_t>(ceil_div(full_cols(), grid.block_cols)));
    size_t place = 0;
    for (size_t rank = 0; rank < parts_.size(); ++rank) {
      if (sizes_[rank] == 0) continue;
      std::memcpy(scales.data() + parts_[rank].blocks().begin, all.data() + place,
                  static_cast<size_t>(sizes_[rank]));
      place += static_cast<size_t>(sizes_[rank]);
    }
    sha.add(std::as_bytes(std::span(scales)));
  }

  Backend& backend_;
  Communicator& communicator_;
  const Parameter& parameter_;
  QuantMatrixView view_;
  std::vector<Part> parts_;     // of each rank
  std::vector<int64_t> sizes_;  // bytes that each rank gives
  std::vector<std::byte> own_;
  std::vector<std::byte> all_;
};

}  // namespace

std::vector<WeightDigest> gathered_digests(Backend& backend, std::span<const Parameter> parameters,
                                           Communicator& communicator) {
  std::vector<WeightDigest> digests;
  for (const Parameter& parameter : parameters) {
    GatheredTensor tensor(backend, communicator, parameter);
    if (!tensor.present()) continue;
    Sha256 sha;
    tensor.add_to(sha);
    if (communicator.rank() == 0) digests.push_back({.name = parameter.name, .sha256 = sha.finish()});
  }
  return digests;
}

}  // namespace octet
