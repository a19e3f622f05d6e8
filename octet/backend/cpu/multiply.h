// SPDX-License-Identifier: Apache-2.0
/// Backend::gemm on the processor: packs x once, then hands panels of w to the kernels of one instruction
/// set.
#pragma once

#include <cstdint>
#include <vector>

#include "octet/backend/backend.h"
#include "octet/backend/cpu/multiply_kernels.h"
#include "octet/backend/cpu/nonfinite_rows.h"
#include "octet/backend/cpu/ops_kernels.h"
#include "octet/backend/cpu/panel_shares.h"
#include "octet/backend/cpu/quantize_kernels.h"

namespace octet {

/// Owns the workspace of the multiply, taken at construction: no call allocates but the first few, which may
/// lengthen the list of segments, and one with more columns than ever fit. Not thread-safe.
class CpuMultiply {
 public:
  /// All must outlive it.
  struct Machine {
    const MultiplyKernels& kernels;
    const QuantizeKernels& quantize;
    const ElementwiseKernels& elementwise;
    Allocator& allocator;
    MemoryLedger& ledger;
    ThreadPool& threads;
  };
  explicit CpuMultiply(Machine machine);

  /// As Backend::gemm.
  void run(const Activations& x, const QuantMatrixView& w, ConstTensorView bias, TensorView y);
  /// As Backend::gemm_dynamic: x becomes FP8 while it is packed, y is rounded as it leaves its panel.
  void run_dynamic(ConstTensorView x, Precision precision, const QuantMatrixView& w, ConstTensorView bias,
                   TensorView y);
  /// As Backend::grouped_gemm: the panels of all matrices that are stored alike are one loop, so that the
  /// threads share the few tokens of many matrices, too.
  void run_groups(const Activations& x, std::span<const MatrixGroup> groups, TensorView y);
  /// As Backend::gemm_heads.
  void run_heads(ConstTensorView x, Precision precision, const HeadMatrix& heads, TensorView y);

 private:
  struct Call;
  /// Some rows of x for some rows of a matrix, packed from row `slot` of the workspace on.
  struct GroupPiece {
    const QuantMatrixView* w = nullptr;
    IndexRange rows = {};    ///< of w
    IndexRange tokens = {};  ///< of x and y
    int64_t slot = 0;
    int64_t x_col = 0;  ///< of x, where the K columns begin
    int64_t y_col = 0;  ///< of y, for the first of `rows`
  };
  /// Columns that lie together in a packed row: [begin, end), the first of them `lead` columns into the cell
  /// `cell`.
  struct PackRun {
    int64_t begin = 0;
    int64_t end = 0;
    int64_t lead = 0;
    int64_t cell = 0;
    int64_t cells = 0;
    int64_t aligned_cells = 0;  ///< with those up to where the next segment begins
  };

  void choose_kernel(Call& call) const;
  void plan_columns(Call& call, const ScalePart* grid);
  [[nodiscard]] int64_t fitting_rows(const Call& call) const;
  void run_passes(Call& call, int64_t tokens);
  void run_tokens(Call& call, int64_t begin, int64_t end);
  [[nodiscard]] bool each_packs(const Call& call, int64_t tokens) const;
  void pack_own(const Call& call, IndexRange tokens, int worker);
  void pack_row(const Call& call, int64_t token, int64_t slot, int worker);
  void quantize_row(const Call& call, int64_t token, int64_t slot, float multiplier, std::byte* row);
  static void clear_end(const Call& call, const PackRun& run, std::byte* cells);
  void pack_run(const Call& call, const PackRun& run, int64_t token, float multiplier, std::byte* row);
  void row_to_tile(const Call& call, const std::byte* row, int64_t slot);
  void run_panels(const Call& call, int64_t begin, int64_t end);
  void run_shares(const Call& call, int64_t panels, IndexRange tokens);
  void run_tasks(const Call& call, int64_t panels, IndexRange tokens);
  void run_part(const Call& call, int64_t panel, IndexRange part, IndexRange tokens, int worker);
  [[nodiscard]] PanelTask task_for(const Call& call, IndexRange tokens, int64_t slot, int worker);
  void run_alike(const Activations& x, std::span<const MatrixGroup> groups, TensorView y);
  [[nodiscard]] static int64_t first_slot(const Call& call, int64_t slot, int64_t tokens);
  [[nodiscard]] int64_t prepare(Call& call);
  [[nodiscard]] static Call call_of(const Call& call, const GroupPiece& piece);
  void run_pieces(const Call& call);
  void run_panel(const Call& call, int64_t panel, IndexRange tokens, PanelTask task) const;
  void run_rows(const Call& call, IndexRange rows, IndexRange tokens, PanelTask task) const;
  void reserve_row(int64_t bytes);
  [[nodiscard]] std::byte* scratch_of(int worker);

  Machine machine_;
  Buffer cells_;                 // packed rows of x
  Buffer scratch_;               // of the kernels, or one packed row, for each thread
  std::vector<float> up_;        // of each packed row
  std::vector<float> scales_;    // of each packed row that became FP8 here
  std::vector<int64_t> packed_;  // of each thread: the last pass for which it packed
  int64_t pass_ = 0;
  PanelShares shares_;
  std::vector<MultiplySegment> segments_;
  std::vector<PackRun> pack_runs_;
  std::vector<GroupPiece> pieces_;
};

}  // namespace octet
