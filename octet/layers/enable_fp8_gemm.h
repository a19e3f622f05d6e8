// SPDX-License-Identifier: Apache-2.0
/// FP8 for a model that was never made for it: one call puts an Fp8Linear in the place of every DenseLinear
/// of a tree, another says what of a tree is in FP8 and what it takes.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "octet/layers/fp8_linear.h"
#include "octet/layers/module.h"

namespace octet {

/// Asked once for each DenseLinear with its first full dotted name ("" for a root); false leaves it as it is.
using ModuleFilter = std::function<bool(std::string_view name, const Module& module)>;

/// Puts an Fp8Linear in the place of every DenseLinear under `root`. A module in two places stays one,
/// linears that share a weight share its FP8 form, nothing inside an Fp8Linear is touched, and a second call
/// changes nothing. A linear whose parent refuses the replacement (`Module::check_child`, for modules that
/// read the weight themselves) is left alone; `fp8_report` says so. With `inplace` false the work is done on
/// a copy (`copy_tree`) and `root` is left untouched; the filter is asked about the original's modules.
///
/// Returns the root, or its wrapper where the root is itself a DenseLinear. Throws ArgumentError for a null
/// root, options that contradict each other, a tree without any linear, modules that cannot be copied, or
/// weights to be quantized now that hold NaN or infinity (all of them by name); and whatever `filter` throws.
/// The tree is then as it was. Out of memory (DeviceError) it stops between two layers, each of them usable.
std::shared_ptr<Module> enable_fp8_gemm(std::shared_ptr<Module> root, const Fp8GemmOptions& options = {},
                                        const ModuleFilter& filter = {}, bool inplace = true);

/// One linear of a tree.
struct Fp8ReportEntry {
  std::vector<std::string> names;  ///< all full dotted names, the first first
  bool wrapped = false;
  std::string reason;       ///< why it is not wrapped, or what is special about it; may be empty
  int64_t bytes_16bit = 0;  ///< what its weight takes in 16 bits; 0 when it shares an earlier entry's
  int64_t bytes = 0;        ///< what it takes now: what is shared with an earlier entry counts there
};

/// Lists every linear of a tree, each object once.
[[nodiscard]] std::vector<Fp8ReportEntry> fp8_report(const std::shared_ptr<Module>& root);

}  // namespace octet
