// SPDX-License-Identifier: Apache-2.0
#include "octet/backend/cpu/cpu_attention.h"

#include <algorithm>
#include <limits>

#include "octet/backend/cpu/attention_scratch.h"
#include "octet/base/checked_math.h"

namespace octet {
namespace {

constexpr int64_t kUsualHead = 128;
constexpr int64_t kSharedBytes = int64_t{2} << 20;

void check_call(const AttentionCall& call) {
  const KvView& cache = call.cache;
  const BatchLayout& batch = call.batch;
  check(call.q.dtype() == DType::kF32 && call.y.dtype() == DType::kF32,
        "attention takes float32 activations");
  check(cache.heads > 0 && call.spec.query_heads > 0 && call.spec.query_heads % cache.heads == 0,
        "the query heads must be a multiple of the key heads");
  check(call.q.shape() == call.y.shape() &&
            (call.q.rows() == 0 || call.q.cols() == call.spec.query_heads * cache.head_dim),
        "attention: q and y have Hq * D columns");
  const size_t sequences = batch.context_lengths.size();
  check(batch.sequence_starts.size() == sequences + 1 && batch.sequence_starts.back() == call.q.rows(),
        "attention: the sequences cover all rows");
  check(static_cast<int64_t>(batch.block_tables.size()) >= static_cast<int64_t>(sequences) * batch.max_blocks,
        "attention: one row of blocks for each sequence");
  for (size_t s = 0; s < sequences; ++s) {
    const int64_t rows = batch.sequence_starts[s + 1] - batch.sequence_starts[s];
    const int64_t keys = batch.context_lengths[s];
    check(rows >= 0 && (rows == 0 || (keys >= rows && keys <= batch.max_blocks * cache.block_size)),
          "attention: a sequence has fewer keys than rows");
  }
}

int64_t queries_per_key(const AttentionCall& call) {
  return call.spec.query_heads / call.cache.heads;
}

int64_t tiles_of(const AttentionCall& call, size_t sequence) {
  const int64_t rows = call.batch.sequence_starts[sequence + 1] - call.batch.sequence_starts[sequence];
  return ceil_div(rows * queries_per_key(call), kTileQueries);
}

/// The partitions that a tile's queries reach into.
struct Partitions {
  int64_t begin;
  int64_t end;
};
Partitions partitions_of(const AttentionTile& tile) {
  int64_t begin = tile.begin[0];
  int64_t end = tile.end[0];
  for (int m = 1; m < tile.count; ++m) {
    begin = std::min(begin, tile.begin[m]);
    end = std::max(end, tile.end[m]);
  }
  return {begin / kPartitionKeys, ceil_div(end, kPartitionKeys)};
}

void clear(const AttentionState& state, int64_t count, int64_t stride) {
  std::fill_n(state.largest, count, -std::numeric_limits<float>::infinity());
  std::fill_n(state.sum, count, 0.0F);
  std::fill_n(state.out, count * stride, 0.0F);
}

}  // namespace

CpuAttention::CpuAttention(const AttentionKernels& kernels, Allocator& allocator, MemoryLedger& ledger,
                           ThreadPool& threads)
    : kernels_(kernels), allocator_(allocator), ledger_(ledger), threads_(threads) {
  reserve(kUsualHead);
  if (threads.threads() > 1) shared_ = Buffer(allocator, ledger, "workspace", kSharedBytes);
  starts_.reserve(1024);
}

int64_t CpuAttention::state_floats() const {
  return kTileQueries * (2 + stride_);
}

void CpuAttention::reserve(int64_t head_dim) {
  stride_ = round_up(head_dim, kHeadPadding);
  worker_floats_ = round_up(AttentionScratchLayout(stride_).floats(), 16) + 2 * state_floats();
  const int64_t bytes = worker_floats_ * threads_.threads() * static_cast<int64_t>(sizeof(float));
  if (bytes > scratch_.bytes()) {
    scratch_.reset();
    scratch_ = Buffer(allocator_, ledger_, "workspace", bytes);
  }
}

AttentionScratch CpuAttention::scratch_of(int worker) const {
  float* memory = reinterpret_cast<float*>(scratch_.data()) + worker * worker_floats_;
  return AttentionScratchLayout(stride_).at(memory + 2 * state_floats());
}

AttentionState CpuAttention::state_at(float* memory) const {
  return {.largest = memory, .sum = memory + kTileQueries, .out = memory + 2 * kTileQueries};
}

void CpuAttention::list_tasks(const AttentionCall& call) {
  starts_.clear();
  starts_.push_back(0);
  for (size_t s = 0; s < call.batch.context_lengths.size(); ++s) {
    starts_.push_back(starts_.back() + tiles_of(call, s) * call.cache.heads);
  }
}

AttentionTile CpuAttention::tile_of(const AttentionCall& call, int64_t task) const {
  const auto after = std::upper_bound(starts_.begin(), starts_.end(), task);
  const auto s = static_cast<size_t>(after - starts_.begin() - 1);
  const int64_t tiles = tiles_of(call, s);
  const int64_t group = queries_per_key(call);
  const KvView& cache = call.cache;
  const int64_t first_row = call.batch.sequence_starts[s];
  const int64_t end_row = call.batch.sequence_starts[s + 1];
  AttentionTile tile;
  tile.keys = cache.keys;
  tile.values = cache.values;
  tile.key_scales = cache.key_scales;
  tile.value_scales = cache.value_scales;
  tile.dtype = cache.dtype;
  tile.block_size = cache.block_size;
  tile.heads = cache.heads;
  tile.head_dim = cache.head_dim;
  tile.blocks = call.batch.block_tables.data() + static_cast<int64_t>(s) * call.batch.max_blocks;
  tile.head = (task - starts_[s]) / tiles;
  tile.scale = call.spec.scale;
  const int64_t first = (task - starts_[s]) % tiles * kTileQueries;
  const int64_t last = std::min(first + kTileQueries, (end_row - first_row) * group);
  for (int64_t query = first; query < last; ++query) {
    const int64_t row = first_row + query / group;
    const int64_t at = (tile.head * group + query % group) * cache.head_dim;
    const int64_t end = call.batch.context_lengths[s] - (end_row - row) + 1;
    tile.q[tile.count] = call.q.row<float>(row) + at;
    tile.y[tile.count] = call.y.row<float>(row) + at;
    tile.begin[tile.count] =
        call.spec.sliding_window > 0 ? std::max<int64_t>(0, end - call.spec.sliding_window) : 0;
    tile.end[tile.count] = end;
    ++tile.count;
  }
  return tile;
}

void CpuAttention::run(const AttentionCall& call) {
  check_call(call);
  reserve(call.cache.head_dim);
  list_tasks(call);
  int64_t keys = 0;
  for (const int32_t length : call.batch.context_lengths) keys = std::max<int64_t>(keys, length);
  const int64_t partitions = ceil_div(keys, kPartitionKeys);
  if (threads_.threads() > 1 && partitions > 1 && starts_.back() < 2 * threads_.threads()) {
    run_shared(call, partitions);
  } else {
    run_whole(call);
  }
}

void CpuAttention::run_whole(const AttentionCall& call) {
  const auto one = [&](int64_t task, int worker) {
    const AttentionTile tile = tile_of(call, task);
    float* memory = reinterpret_cast<float*>(scratch_.data()) + worker * worker_floats_;
    const AttentionState part = state_at(memory);
    const AttentionState total = state_at(memory + state_floats());
    clear(total, tile.count, stride_);
    const Partitions range = partitions_of(tile);
    kernels_.prepare(tile, scratch_of(worker));
    for (int64_t p = range.begin; p < range.end; ++p) {
      kernels_.partition(tile, p, scratch_of(worker), part);
      kernels_.merge(tile, part, total);
    }
    kernels_.finish(tile, total);
  };
  if (starts_.back() == 1) return one(0, 0);
  threads_.parallel_for(starts_.back(), one);
}

void CpuAttention::run_shared(const AttentionCall& call, int64_t partitions) {
  const int64_t tasks = starts_.back();
  const int64_t each = state_floats();
  const int64_t room = shared_.bytes() / static_cast<int64_t>(sizeof(float)) / each;  // states
  const int64_t wave = room / std::max<int64_t>(1, tasks) - 1;  // one state of each task is its total
  if (wave < 1) return run_whole(call);
  auto* totals = reinterpret_cast<float*>(shared_.data());
  float* parts = totals + tasks * each;
  for (int64_t first = 0; first < partitions; first += wave) {
    const int64_t count = std::min(wave, partitions - first);
    threads_.parallel_for(tasks * count, [&](int64_t index, int worker) {
      const AttentionTile tile = tile_of(call, index / count);
      kernels_.prepare(tile, scratch_of(worker));
      kernels_.partition(tile, first + index % count, scratch_of(worker), state_at(parts + index * each));
    });
    threads_.parallel_for(tasks, [&](int64_t task, int) {
      const AttentionTile tile = tile_of(call, task);
      const AttentionState total = state_at(totals + task * each);
      if (first == 0) clear(total, tile.count, stride_);
      for (int64_t p = 0; p < count; ++p) {
        kernels_.merge(tile, state_at(parts + (task * count + p) * each), total);
      }
      if (first + count == partitions) kernels_.finish(tile, total);
    });
  }
}

}  // namespace octet
