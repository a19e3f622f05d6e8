// SPDX-License-Identifier: Apache-2.0
/// How the columns of a panel are cut into what the multiply goes over at a time. Included by multiply-inl.h.
#pragma once

#include <cstring>

#include "octet/backend/cpu/multiply_fold-inl.h"

namespace octet::OCTET_ISA {
namespace {

/// How far ahead of the multiply a line of weights is asked for: by a single pass over them,
inline constexpr int64_t kPrefetchBytes = 4096;
/// and where several strips pass over a chunk of columns one after another: the strip's own lines in the next
/// chunk.
template <class W>
inline constexpr int64_t kChunkBytes = kChunkCells * W::Decoded::kCells / W::kCells * kCellBytes;
/// Where each token's pass is short, a chunk and the next one share the first cache with x.
template <class W>
inline constexpr int64_t kFusedBytes = kLanes < 16 ? 16384 : kChunkBytes<W> / 2;

/// Groups of one segment.
struct Piece {
  const std::byte* weights;  // the first group
  int64_t groups;
  int64_t begin;       // groups of the chunk before it
  const std::byte* x;  // cells of the first token
  bool resume;         // the segment began in an earlier chunk
  const Fold* fold;    // null: the segment goes on in a later one
};

/// Some columns for all tokens of a task, of one segment or of several whole ones.
struct Chunk {
  const Piece* pieces;
  int64_t count;
  int64_t tokens;
  int64_t x_stride;    // in bytes
  bool streams;        // PanelTask::streams
  float* sums;         // [kMaxTokens, 64]
  std::byte* decoded;  // cells of 64 rows, as many as the task's scratch has room for
};

/// Rows of a row-major matrix as groups of a panel, zero where there is no element.
inline void gather_groups(const PanelTask& task, int64_t first_group, int64_t groups, std::byte* into) {
  std::memset(into, 0, static_cast<size_t>(groups * kCellBytes));
  const int64_t first = first_group * 4;
  const int64_t bytes = first + groups * 4 < task.row_bytes ? groups * 4 : task.row_bytes - first;
  for (int64_t r = 0; r < task.rows; ++r) {
    const std::byte* row = task.weights + r * task.row_bytes + first;
    int64_t b = 0;
    for (; b + 4 <= bytes; b += 4) std::memcpy(into + b * kRows + r * 4, row + b, 4);
    if (b < bytes) std::memcpy(into + b * kRows + r * 4, row + b, static_cast<size_t>(bytes - b));
  }
}

/// Groups that are worked on at a time: a single token needs no second pass over them.
template <class W>
inline int64_t chunk_groups(const PanelTask& task) {
  if (task.tokens == 1 && task.row_bytes == 0) return INT64_MAX;
  return (task.tokens <= kFusedLimit ? kFusedBytes<W> : kChunkBytes<W>) / kCellBytes;
}

struct ChunkSize {
  int64_t groups;     // at most
  int64_t whole = 1;  // each piece begins at a multiple of so many of them
};

/// Goes over a task's columns: whole segments as long as they fit into a chunk, else parts of one.
template <class W>
class Chunks {
 public:
  Chunks(const PanelTask& task, const Outputs& outputs, ChunkSize size)
      : task_(task),
        outputs_(outputs),
        room_(size.groups),
        whole_(size.whole),
        most_(room_ == INT64_MAX ? 1 : kMaxPieces) {}

  /// False at the end. What it gives lasts until the next call.
  bool next(Chunk& chunk) {
    if (segment_ == task_.segment_count) return false;
    chunk = {.pieces = pieces_,
             .count = 0,
             .tokens = task_.tokens,
             .x_stride = task_.x_stride * 4,
             .streams = task_.streams,
             .sums = reinterpret_cast<float*>(task_.scratch),
             .decoded = task_.scratch + kDecodedOffset};
    const int64_t first = task_.segments[segment_].first_group + done_;
    int64_t groups = 0;
    do {
      const int64_t taken = take_piece(chunk.count++, first, groups);
      groups += (taken + whole_ - 1) / whole_ * whole_;
    } while (done_ == 0 && segment_ < task_.segment_count && chunk.count < most_ &&
             task_.segments[segment_].groups <= room_ - groups);
    if (task_.row_bytes != 0) gather_groups(task_, first, groups, task_.scratch + kGatheredOffset);
    return true;
  }

 private:
  /// The segment's groups, or as many of them as fit into a chunk; returns how many.
  int64_t take_piece(int64_t index, int64_t first, int64_t begin) {
    const MultiplySegment& segment = task_.segments[segment_];
    const int64_t left = segment.groups - done_;
    const int64_t groups = left < room_ ? left : room_;
    const int64_t at = segment.first_group + done_;
    Fold* fold = groups == left ? &folds_[index] : nullptr;
    if (fold != nullptr) {
      auto* factors = reinterpret_cast<float*>(task_.scratch + kFactorsOffset) + index * kMaxTokens;
      *fold = outputs_.fold(segment_, scales_[index], factors);
    }
    pieces_[index] = {.weights = task_.row_bytes == 0
                                     ? task_.weights + at * kCellBytes
                                     : task_.scratch + kGatheredOffset + (at - first) * kCellBytes,
                      .groups = groups,
                      .begin = begin,
                      .x = task_.x + (segment.x_cell + done_ * W::kCells) * 4,
                      .resume = done_ > 0,
                      .fold = fold};
    done_ = fold != nullptr ? 0 : done_ + groups;
    segment_ += fold != nullptr ? 1 : 0;
    return groups;
  }

  const PanelTask& task_;
  const Outputs& outputs_;
  int64_t room_;  // groups of a chunk
  int64_t whole_;
  int64_t most_;  // pieces of one: a single pass does not wait while many are prepared
  int64_t segment_ = 0;
  int64_t done_ = 0;  // groups of it
  Piece pieces_[kMaxPieces];
  Fold folds_[kMaxPieces];
  alignas(64) float scales_[kMaxPieces][kRows];
};

}  // namespace
}  // namespace octet::OCTET_ISA
