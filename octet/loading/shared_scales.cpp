// SPDX-License-Identifier: Apache-2.0
#include "octet/loading/shared_scales.h"

#include <algorithm>
#include <array>

#include "octet/base/checked_math.h"
#include "octet/base/error.h"

namespace octet {
namespace {

constexpr int64_t kMaximaSharedAtOnce = 4096;

/// The blocks that [first, first + count) touches.
IndexRange blocks_of(int64_t first, int64_t count, int64_t block) {
  if (count == 0) return {.begin = first / block, .end = first / block};
  return {.begin = first / block, .end = ceil_div(first + count, block)};
}

bool cuts_a_block(int64_t first, int64_t count, int64_t full) {
  const int64_t end = first + count;
  return first % kScaleBlock != 0 || (end % kScaleBlock != 0 && end != full);
}

void check_counts(size_t count, LoadPeers& peers) {
  std::array<float, 2> most_and_least = {static_cast<float>(count), -static_cast<float>(count)};
  peers.reduce_max(most_and_least);
  if (most_and_least[0] == -most_and_least[1]) return;
  throw ConfigError("the ranks do not load the same tensors: one has " +
                    std::to_string(static_cast<int64_t>(most_and_least[0])) + ", another " +
                    std::to_string(static_cast<int64_t>(-most_and_least[1])) +
                    "; every rank must be given the same model and options");
}

}  // namespace

ScaleTable scale_table(const Piece& piece) {
  const bool grid = piece.kind == PieceKind::kAdopt || piece.rule.granularity == Granularity::kBlock;
  if (grid) {
    return {.rows = ceil_div(piece.full_rows, piece.block.rows),
            .cols = ceil_div(piece.full_cols, piece.block.cols),
            .own_rows = blocks_of(piece.first_row, piece.rows, piece.block.rows),
            .own_cols = blocks_of(piece.first_col, piece.cols, piece.block.cols)};
  }
  if (piece.rule.granularity == Granularity::kTensor)
    return {.rows = 1, .cols = 1, .own_rows = {.end = 1}, .own_cols = {.end = 1}};
  return {.rows = piece.full_rows,
          .cols = 1,
          .own_rows = {.begin = piece.first_row, .end = piece.first_row + piece.rows},
          .own_cols = {.end = 1}};
}

bool covers_other_ranks(const Piece& piece) {
  if (piece.kind != PieceKind::kQuantize || piece.rule.raw_cast) return false;
  switch (piece.rule.granularity) {
    case Granularity::kTensor:
      return piece.rows != piece.full_rows || piece.cuts_columns();
    case Granularity::kChannel:
      return piece.cuts_columns();
    case Granularity::kBlock:
      return cuts_a_block(piece.first_row, piece.rows, piece.full_rows) ||
             cuts_a_block(piece.first_col, piece.cols, piece.full_cols);
  }
  return false;
}

void agree_on_shared_scales(std::vector<Piece>& pieces, LoadPeers* peers) {
  if (peers == nullptr) {
    for (const Piece& piece : pieces) {
      if (piece.shared_scales) {
        throw ArgumentError(place(*piece.source) +
                            ": a scale covers values of other ranks; expected LoadOptions::peers");
      }
    }
    return;
  }
  check_counts(pieces.size(), *peers);
  std::vector<float> flags;
  for (const Piece& piece : pieces) flags.push_back(piece.shared_scales ? 1.0F : 0.0F);
  if (!flags.empty()) peers->reduce_max(flags);
  for (size_t i = 0; i < pieces.size(); ++i) pieces[i].shared_scales = flags[i] > 0;
}

// In passes of bounded size over the whole table, so that every rank makes the same calls whatever it holds.
void share_maxima(const Piece& piece, LoadPeers& peers, float* maxima) {
  const ScaleTable table = scale_table(piece);
  std::array<float, kMaximaSharedAtOnce> values;
  const auto own = [&](int64_t index) -> float* {
    const int64_t row = index / table.cols;
    const int64_t col = index % table.cols;
    const bool inside = row >= table.own_rows.begin && row < table.own_rows.end &&
                        col >= table.own_cols.begin && col < table.own_cols.end;
    if (!inside) return nullptr;
    return maxima + (row - table.own_rows.begin) * table.own_cols.size() + col - table.own_cols.begin;
  };
  for (int64_t begin = 0; begin < table.rows * table.cols; begin += kMaximaSharedAtOnce) {
    const int64_t count = std::min(kMaximaSharedAtOnce, table.rows * table.cols - begin);
    for (int64_t i = 0; i < count; ++i) {
      const float* value = own(begin + i);
      values[static_cast<size_t>(i)] = value != nullptr ? *value : 0.0F;
    }
    peers.reduce_max(std::span(values).first(static_cast<size_t>(count)));
    for (int64_t i = 0; i < count; ++i) {
      if (float* value = own(begin + i); value != nullptr) *value = values[static_cast<size_t>(i)];
    }
  }
}

}  // namespace octet
