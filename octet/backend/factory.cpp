// SPDX-License-Identifier: Apache-2.0
#include "octet/backend/factory.h"

#include <algorithm>

#include "octet/backend/cpu/cpu_backend.h"
#include "octet/backend/reference/reference_backend.h"
#include "octet/base/error.h"

namespace octet {
namespace {

constexpr int kMaxThreads = 1024;

Threads threads_of(const BackendOptions& options) {
  if (options.threads == 0) return {std::min(usable_cores(), kMaxThreads), options.borrowed_threads};
  if (options.threads < 0 || options.threads > kMaxThreads) {
    throw ConfigError("threads: expected 1 to " + std::to_string(kMaxThreads) +
                      ", or 0 for one for each core, found " + std::to_string(options.threads));
  }
  return {options.threads, options.borrowed_threads};
}

void check_isa(CpuIsa isa) {
  const std::vector<CpuIsa> supported = supported_isas();
  if (std::ranges::find(supported, isa) != supported.end()) return;
  std::string names;
  for (const CpuIsa each : supported) names += (names.empty() ? "" : ", ") + std::string(to_string(each));
  throw ConfigError("isa: this machine lacks " + std::string(to_string(isa)) + "; it has " + names);
}

std::unique_ptr<Backend> make_reference(const BackendOptions& options, MemoryLedger& ledger) {
  if (options.isa) throw ConfigError("isa: an instruction set can be chosen for the device \"cpu\" only");
  return std::make_unique<ReferenceBackend>(ledger, MatrixLayout::kRowMajor, threads_of(options));
}

}  // namespace

std::unique_ptr<Backend> make_backend(const BackendOptions& options, MemoryLedger& ledger) {
  if (options.device == "reference") return make_reference(options, ledger);
  if (options.device == "auto" || options.device == "cpu") {
    if (options.isa) check_isa(*options.isa);
    return make_cpu_backend(threads_of(options), options.isa, ledger);
  }
  if (options.device == "cuda" || options.device.starts_with("cuda:")) {
    throw ConfigError("device: \"" + options.device +
                      "\" cannot be used: this build has no CUDA; known devices: auto, cpu, reference");
  }
  throw ConfigError("device: unknown device \"" + options.device + "\"; known devices: auto, cpu, reference");
}

}  // namespace octet
