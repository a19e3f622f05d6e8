// SPDX-License-Identifier: Apache-2.0
#include "apps/cli/summary.h"

#include "apps/cli/format.h"
#include "octet/base/process_memory.h"

namespace octet::cli {
namespace {

struct Quantized {
  int64_t count = 0;
  int64_t bytes_before = 0;
  int64_t bytes_after = 0;
  QuantizeStats stats;
};

Quantized quantized(const LoadReport& report) {
  Quantized sum;
  for (const WeightRecord& weight : report.weights) {
    if (!weight.quantized) continue;
    sum.count += 1;
    sum.bytes_before += weight.elements * dtype_size(weight.source_dtype);
    sum.bytes_after += weight.bytes;
    sum.stats.add(weight.stats);
  }
  return sum;
}

std::string sqnr_text(const QuantizeStats& stats) {
  const auto sqnr = sqnr_db(stats);
  return sqnr ? format_number(*sqnr, 1) + " dB" : std::string("exact");
}

void summarize_quantization(LLM& llm, const Console& console) {
  const LoadReport& report = llm.model().load_report();
  const Quantized sum = quantized(report);
  if (sum.count == 0) {
    console.note("quantized  nothing; " + std::to_string(report.weights.size()) + " tensors as they are");
    return;
  }
  const QuantOptions& quant = llm.model().options().quant;
  console.note("quantized  " + std::to_string(sum.count) + " matrices to " +
               std::string(to_string(quant.fp8_format)) + ", " +
               (quant.raw_cast ? "raw cast"
                               : std::string(to_string(quant.quantization.value_or(Granularity::kChannel)))) +
               ": " + format_bytes(sum.bytes_before) + " -> " + format_bytes(sum.bytes_after) + ", SQNR " +
               sqnr_text(sum.stats));
  for (const WeightQuality& group : quality_by_group(report.quality())) {
    console.detail("  " + quality_text(group));
  }
}

/// What the options in force saved, in the terms of `octet inspect`.
void summarize_savings(LLM& llm, const Console& console) {
  const QuantOptions& quant = llm.model().options().quant;
  if (!quant.fp8_lm_head && !quant.fp8_embedding && !console.is_verbose()) return;
  for (const OptionSaving& saving : loaded_savings(llm)) {
    console.note("saved      by " + saving.option + ": " + format_bytes(saving.saved_bytes) + " (" +
                 std::to_string(saving.saved_bytes) + " bytes), room for " +
                 format_count(saving.kv_cache_tokens) + " tokens of KV cache");
  }
}

}  // namespace

std::string quality_text(const WeightQuality& group) {
  return group.name + ": SQNR " + sqnr_text(group.stats) + ", became zero " +
         format_number(100 * zero_fraction(group.stats), 3) + " %, saturated " +
         std::to_string(group.stats.saturated);
}

std::vector<OptionSaving> loaded_savings(LLM& llm) {
  const KvCacheSpec cache = kv_cache_spec(llm.model().decoder(), llm.engine().options().kv_cache_dtype);
  return savings_of_loaded(llm.model(), cache.bytes_per_token());
}

void summarize_load(LLM& llm, const Console& console) {
  if (console.is_quiet()) return;
  const LoadReport& report = llm.model().load_report();
  summarize_quantization(llm, console);
  summarize_savings(llm, console);
  console.note("memory     weights " + format_bytes(report.final_bytes) + ", peak while loading " +
               format_bytes(report.peak_bytes) + " (planned " + format_bytes(report.predicted_peak_bytes) +
               "), KV cache " + format_bytes(llm.engine().cache().bytes()) + " for " +
               format_count(llm.engine().options().kv_cache_tokens) + " tokens");
  console.note("loaded     " + format_bytes(report.read_bytes) + " in " + format_number(report.seconds, 2) +
               " s, " + format_rate(static_cast<double>(report.read_bytes) / 1e9, report.seconds) +
               " GB/s, on " + llm.model().backend().describe());
}

void summarize_generation(const Generation& generation, const Console& console) {
  const auto prompt = static_cast<int64_t>(generation.prompt_ids.size());
  const auto answer = static_cast<int64_t>(generation.ids.size());
  console.note("prompt     " + format_count(prompt) + " tokens in " +
               format_number(generation.prefill_seconds, 3) + " s, " +
               format_rate(static_cast<double>(prompt), generation.prefill_seconds) + " tokens/s");
  console.note(
      "answer     " + format_count(answer) + " tokens in " + format_number(generation.decode_seconds, 3) +
      " s, " + format_rate(static_cast<double>(answer - 1), generation.decode_seconds) +
      " tokens/s, ended by " + (generation.finish_reason == FinishReason::kStop ? "stop" : "length"));
}

double decode_rate(const Generation& generation) {
  if (generation.ids.size() < 2 || generation.decode_seconds <= 0) return 0;
  return static_cast<double>(generation.ids.size() - 1) / generation.decode_seconds;
}

Json digests_json(LLM& llm) {
  Json digests = Json::object();
  for (const WeightDigest& digest : llm.model().digests()) digests[digest.name] = digest.sha256;
  return digests;
}

Json memory_json(LLM& llm) {
  const LoadReport& report = llm.model().load_report();
  return {{"weights_bytes", report.final_bytes},
          {"kv_cache_bytes", llm.engine().cache().bytes()},
          {"peak_bytes", llm.model().ledger().peak()},
          {"load_peak_bytes", report.peak_bytes},
          {"planned_load_peak_bytes", report.predicted_peak_bytes},
          {"process_peak_rss_bytes", process_memory().peak_resident_bytes}};
}

}  // namespace octet::cli
