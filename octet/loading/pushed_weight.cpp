// SPDX-License-Identifier: Apache-2.0
#include "octet/loading/pushed_weight.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <new>

#include "octet/base/error.h"
#include "octet/base/faults.h"
#include "octet/base/mix_bits.h"
#include "octet/base/out_of_memory.h"
#include "octet/loading/piece_values.h"

namespace octet {
namespace {

constexpr int64_t kMaximaAtOnce = int64_t{1} << 16;

std::string_view why_it_waits(const Piece& piece) {
  switch (piece.rule.granularity) {
    case Granularity::kTensor:
      return "a scale per tensor is known when the last piece of the tensor is there";
    case Granularity::kChannel:
      return "a scale per row is known when the whole row is there: push whole rows";
    case Granularity::kBlock:
      return "a scale per block is known when all 128 x 128 values are there: push multiples of 128 rows";
  }
  return "";
}

}  // namespace

void PendingBytes::reserve(int64_t bytes, const std::string& name, std::string_view reason) {
  if (bytes_.fetch_add(bytes) + bytes <= most_) return;
  bytes_ -= bytes;
  throw ArgumentError("tensor " + quote(name) + ": a piece of " + std::to_string(bytes) +
                      " bytes would have to wait, beside " + std::to_string(bytes_.load()) +
                      " that do, and at most " + std::to_string(most_) +
                      " may (max_pending_bytes): " + std::string(reason));
}

void* PendingBytes::Heap::allocate(int64_t bytes) {
  void* data = ::operator new(static_cast<size_t>(bytes), std::align_val_t{64}, std::nothrow);
  if (data == nullptr)
    throw OutOfMemoryError("out of memory: " + std::to_string(bytes) + " bytes cannot be had");
  return data;
}

void PendingBytes::Heap::release(void* data, int64_t /*bytes*/) noexcept {
  ::operator delete(data, std::align_val_t{64});
}

HeldBytes::HeldBytes(PendingBytes& pending, int64_t bytes, const std::string& name, std::string_view reason) {
  pending.reserve(bytes, name, reason);
  try {
    buffer_ = Buffer(pending.allocator(), pending.ledger(), "loading", bytes);
  } catch (...) {
    pending.release(bytes);
    throw;
  }
  pending_ = &pending;
}

HeldBytes::~HeldBytes() {
  if (pending_ != nullptr) pending_->release(buffer_.bytes());
}

void PushedTensor::add_fingerprint(const Rectangle& place, int64_t cols, std::span<const std::byte> bytes,
                                   DType dtype) {
  uint64_t sum = 0;
  int64_t i = 0;
  for (int64_t row = place.rows.begin; row < place.rows.end; ++row) {
    for (int64_t col = place.cols.begin; col < place.cols.end; ++col) {
      const auto bits = std::bit_cast<uint32_t>(value_at(bytes.data(), i++, dtype));
      sum += mix_bits(mix_bits(static_cast<uint64_t>(row * cols + col)) ^ bits);
    }
  }
  fingerprint_ += sum;
}

PushedWeight::PushedWeight(Backend& backend, PendingBytes& pending, const Piece& piece,
                           const QuantMatrixView& into)
    : backend_(backend), pending_(pending), piece_(piece), into_(into) {
  if (piece.kind == PieceKind::kQuantize && !piece.rule.raw_cast) groups_.emplace(piece);
  const bool ones = into.scale_kind == ScaleKind::kRow &&
                    (piece.kind == PieceKind::kAdopt ? piece.scales == nullptr : !groups_.has_value());
  if (ones) std::fill_n(into.scales + piece.offset, piece.rows, 1.0F);
}

bool PushedWeight::is_vector() const {
  return std::holds_alternative<StoredVector*>(piece_.parameter->destination);
}

/// This rank's slice; a vector as its source has it, with one column.
Rectangle PushedWeight::own() const {
  const IndexRange rows{.begin = piece_.first_row, .end = piece_.first_row + piece_.rows};
  const IndexRange cols{.begin = piece_.first_col, .end = piece_.first_col + piece_.cols};
  if (is_vector()) return {.rows = cols, .cols = {.begin = 0, .end = 1}};
  return {.rows = rows, .cols = cols};
}

ConstTensorView PushedWeight::view_of_part(const Rectangle& part, const Rectangle& place,
                                           std::span<const std::byte> bytes) const {
  const int64_t skipped =
      (part.rows.begin - place.rows.begin) * place.cols.size() + part.cols.begin - place.cols.begin;
  const DType dtype = piece_.source->dtype;
  const Shape shape = is_vector() ? Shape{1, part.rows.size()} : Shape{part.rows.size(), part.cols.size()};
  const int64_t stride = is_vector() ? part.rows.size() : place.cols.size();
  return {bytes.data() + skipped * dtype_size(dtype), dtype, shape, stride};
}

void PushedWeight::add(const TileResult& result) {
  const std::scoped_lock lock(mutex_);
  const int64_t first = result_.first_nonfinite_row;
  result_.add(result);
  if (first >= 0 && result.first_nonfinite_row >= 0)
    result_.first_nonfinite_row = std::min(first, result.first_nonfinite_row);
}

void PushedWeight::write(const Rectangle& part, ConstTensorView x) {
  if (piece_.kind != PieceKind::kQuantize || piece_.rule.raw_cast) return write_raw(part, x);
  TileResult result;
  backend_.quantize(
      x, into_,
      {.row = piece_.offset + part.rows.begin - piece_.first_row, .col = part.cols.begin - piece_.first_col},
      quantize_rule(scale_rule(piece_)), &result.stats);
  add(result);
}

void PushedWeight::write_raw(const Rectangle& part, ConstTensorView x) {
  TileResult result;
  const MatrixPlace at =
      is_vector() ? MatrixPlace{.row = 0, .col = piece_.offset + part.rows.begin - piece_.first_col}
                  : MatrixPlace{.row = piece_.offset + part.rows.begin - piece_.first_row,
                                .col = part.cols.begin - piece_.first_col};
  const bool quantizes = piece_.kind == PieceKind::kQuantize;
  if (quantizes || (is_real(x.dtype()) && !widens_exactly(x.dtype(), into_.dtype))) {
    std::vector<float> maxima(static_cast<size_t>(x.rows()));
    result.nonfinite =
        backend_.abs_max(x, x.cols(), x.cols(), octet::view_of(maxima.data(), Shape{x.rows(), 1}));
    if (result.nonfinite > 0) result.first_nonfinite_row = part.rows.begin + first_nonfinite_row(x);
    if (!quantizes)
      result.overflow = rounds_to_infinity(*std::max_element(maxima.begin(), maxima.end()), into_.dtype);
  }
  if (quantizes) {
    backend_.quantize(x, into_, at, raw_cast_rule(), &result.stats);
  } else {
    backend_.store(x, into_, at);
  }
  add(result);
}

void PushedWeight::push(PushedTensor& tensor, const Rectangle& place, std::span<const std::byte> bytes) {
  if (groups_) return push_scaled(tensor, place, bytes);
  if (!tensor.add(place, [] {})) return;
  const Rectangle part = intersection(place, own());
  if (part.elements() > 0) write(part, view_of_part(part, place, bytes));
}

void PushedWeight::measure(const Rectangle& part, ConstTensorView x) {
  const int64_t first = groups_->first_run(part);
  const int64_t runs =
      1 + std::max<int64_t>(0, part.cols.size() - first + groups_->run() - 1) / groups_->run();
  const int64_t step = std::max<int64_t>(1, kMaximaAtOnce / runs);
  std::vector<float> maxima(static_cast<size_t>(std::min(step, x.rows()) * runs));
  TileResult result;
  for (int64_t begin = 0; begin < x.rows(); begin += step) {
    const ConstTensorView rows = x.slice_rows(begin, std::min(x.rows(), begin + step));
    const int64_t wrong = backend_.abs_max(rows, first, groups_->run(),
                                           octet::view_of(maxima.data(), Shape{rows.rows(), runs}));
    if (wrong > 0 && result.nonfinite == 0)
      result.first_nonfinite_row = part.rows.begin + begin + first_nonfinite_row(rows);
    result.nonfinite += wrong;
    const std::scoped_lock lock(mutex_);
    for (int64_t i = 0; i < rows.rows(); ++i)
      groups_->add_row(part, part.rows.begin + begin + i, maxima.data() + i * runs);
  }
  add(result);
}

/// Of the groups that `part`, relevant, touches: those which are whole get their scale.
void PushedWeight::set_scales(const Rectangle& part) {
  const ScaleRule rule = scale_rule(piece_);
  groups_->for_whole(part, [&](int64_t row, int64_t col, float amax) {
    const float scale = scale_from_amax(amax, rule);
    if (rule.granularity == Granularity::kTensor) {
      std::fill_n(into_.scales + piece_.offset, piece_.rows, scale);
    } else if (rule.granularity == Granularity::kChannel) {
      into_.scales[piece_.offset + row] = scale;
    } else {
      const ScalePart& grid = into_.part_of(piece_.offset);
      into_.scales[grid.first_scale + row * grid.grid_cols + col] = scale;
    }
  });
}

// The maxima are added before the elements are counted, so that a scale is never made too early; pieces that
// come at the same time may both wait, and the later one writes both.
void PushedWeight::push_scaled(PushedTensor& tensor, const Rectangle& place,
                               std::span<const std::byte> bytes) {
  const Rectangle part = intersection(place, own());
  const Rectangle relevant = groups_->relevant(place);
  std::list<Held> held;
  const bool first_time = tensor.add(place, [&] {
    const std::scoped_lock lock(mutex_);
    if (part.elements() == 0 || groups_->known_after(part, relevant)) return;
    held.push_back({.place = part,
                    .bytes = HeldBytes(pending_, part.elements() * dtype_size(piece_.source->dtype),
                                       piece_.source->name, why_it_waits(piece_))});
  });
  if (!first_time || relevant.elements() == 0) return;
  measure(relevant, view_of_part(relevant, place, bytes));
  const ConstTensorView x = view_of_part(part, place, bytes);
  if (!held.empty()) {
    std::byte* to = held.front().bytes.span().data();
    const auto row_bytes = static_cast<size_t>(part.cols.size() * dtype_size(x.dtype()));
    for (int64_t row = 0; row < part.rows.size(); ++row, to += row_bytes)
      std::memcpy(to, x.row<std::byte>(row), row_bytes);
  }
  std::list<Held> ready;
  const bool waits = !held.empty();
  {
    const std::scoped_lock lock(mutex_);
    const bool news = groups_->arrive(relevant);
    held_.splice(held_.end(), held);
    if (news) {
      set_scales(relevant);
      for (auto it = held_.begin(); it != held_.end();) {
        const auto next = std::next(it);
        if (groups_->known(it->place)) ready.splice(ready.end(), held_, it);
        it = next;
      }
    }
  }
  if (!waits && part.elements() > 0) write(part, x);
  for (const Held& piece : ready)
    write(piece.place, view_of_part(piece.place, piece.place, piece.bytes.span()));
}

void PushedWeight::push_scales(PushedTensor& tensor, const Rectangle& place,
                               std::span<const std::byte> bytes) {
  if (!tensor.add(place, [] {})) return;
  const SourceTensor& scales = *piece_.scales;
  const ScaleBlock block = adopted_scales(piece_);
  const Rectangle part = intersection(place, {.rows = block.rows, .cols = block.cols});
  float* const out = into_.scales + (into_.scale_kind == ScaleKind::kGrid && piece_.rows > 0
                                         ? into_.part_of(piece_.offset).first_scale
                                         : piece_.offset);
  for (int64_t row = part.rows.begin; row < part.rows.end; ++row) {
    for (int64_t col = part.cols.begin; col < part.cols.end; ++col) {
      const int64_t index = (row - place.rows.begin) * place.cols.size() + col - place.cols.begin;
      const float scale = scale_value(bytes.data(), index, scales.dtype);
      if (!is_scale(scale)) {
        const std::scoped_lock lock(mutex_);
        if (!scales_fault_) scales_fault_ = scale_fault(scales, row * scales.cols() + col, scale);
      }
      if (piece_.file_scales == FileScales::kScalar) {
        std::fill_n(out, piece_.rows, scale);
      } else {
        out[(row - block.rows.begin) * block.cols.size() + col - block.cols.begin] = scale;
      }
    }
  }
}

}  // namespace octet
