// SPDX-License-Identifier: Apache-2.0
/// Cuts attention into tiles for the threads and owns their working memory. A tile is one key head of one
/// sequence with up to 32 query vectors; where there are few tiles and many keys, threads share the
/// partitions of a tile.
#pragma once

#include <cstdint>
#include <vector>

#include "octet/backend/backend.h"
#include "octet/backend/cpu/ops_kernels.h"

namespace octet {

/// What Backend::attention is given.
struct AttentionCall {
  ConstTensorView q;
  const KvView& cache;
  const BatchLayout& batch;
  const AttentionSpec& spec;
  TensorView y;
};

class CpuAttention {
 public:
  /// All but `kernels` are the backend's and must outlive this. Memory is taken here, for heads of up to 128,
  /// and again when a larger head is first met.
  CpuAttention(const AttentionKernels& kernels, Allocator& allocator, MemoryLedger& ledger,
               ThreadPool& threads);

  /// Throws ArgumentError where the shapes do not fit.
  void run(const AttentionCall& call);

 private:
  void list_tasks(const AttentionCall& call);
  [[nodiscard]] AttentionTile tile_of(const AttentionCall& call, int64_t task) const;
  void run_whole(const AttentionCall& call);
  void run_shared(const AttentionCall& call, int64_t partitions);
  void reserve(int64_t head_dim);
  [[nodiscard]] AttentionScratch scratch_of(int worker) const;
  [[nodiscard]] AttentionState state_at(float* memory) const;
  [[nodiscard]] int64_t state_floats() const;

  const AttentionKernels& kernels_;
  Allocator& allocator_;
  MemoryLedger& ledger_;
  ThreadPool& threads_;
  Buffer scratch_;      ///< for each worker: AttentionScratch and two states
  Buffer shared_;       ///< states of partitions that threads share
  int64_t stride_ = 0;  ///< the padded head of this call
  int64_t worker_floats_ = 0;
  std::vector<int64_t> starts_;  ///< [S+1] first task of each sequence
};

}  // namespace octet
