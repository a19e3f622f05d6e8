// SPDX-License-Identifier: Apache-2.0
#include "octet/llm/throughput.h"

#include <algorithm>
#include <set>

#include "octet/backend/cpu/ceilings.h"
#include "octet/base/clock.h"
#include "octet/base/cpu_features.h"

namespace octet {
namespace {

constexpr int64_t kRawReadPiece = int64_t{4} << 20;
constexpr double kGiga = 1e9;

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

/// What one token makes the machine read and multiply.
struct StepWork {
  std::vector<ByteSpan> pieces;  // every matrix that is multiplied with
  int64_t bytes = 0;
  int64_t elements_per_token = 0;     // of those that every token meets
  int64_t elements_per_sequence = 0;  // of the head, which only the last token of a prompt meets

  explicit StepWork(Decoder& decoder) {
    std::set<const StoredMatrix*> seen;
    for (const Parameter& parameter : decoder.parameters()) {
      const auto* const* matrix = std::get_if<StoredMatrix*>(&parameter.destination);
      if (matrix == nullptr || (*matrix)->lookup_only || !seen.insert(*matrix).second) continue;
      add(**matrix, decoder.spec());
    }
  }

 private:
  void add(const StoredMatrix& stored, const DecoderSpec& spec) {
    const QuantMatrixView view = stored.matrix.view();
    const int64_t size = matrix_bytes(view.layout, view.dtype, view.rows, view.cols);
    pieces.emplace_back(view.data, static_cast<size_t>(size));
    bytes += size;
    const bool head = stored.name == spec.names.lm_head || stored.name == spec.names.embed_tokens;
    (head ? elements_per_sequence : elements_per_token) += stored.rows * stored.cols;
  }
};

/// A request whose prompt is its own.
Request request(int64_t index, const ThroughputOptions& options, int64_t vocab_size) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < options.prompt_tokens; ++i)
    ids.push_back(static_cast<int32_t>((i * 7919 + 17 + index) % vocab_size));
  return {.prompt = std::move(ids),
          .params = {.temperature = 0, .max_tokens = options.new_tokens + 1, .ignore_eos = true}};
}

/// Prefill and decode seconds of one sequence.
struct RunSeconds {
  double prefill = 0;
  double decode = 0;
};

/// `progress` is called after every step with the share of the run that is done.
RunSeconds run_once(Engine& engine, const ThroughputOptions& options, int64_t vocab_size,
                    const std::function<void(double)>& progress) {
  engine.add(request(0, options, vocab_size));
  const auto start = Clock::now();
  RunSeconds seconds;
  int64_t chosen = 0;
  while (engine.has_work()) {
    const bool no_token_yet = engine.step().empty();
    if (!no_token_yet) ++chosen;
    progress(static_cast<double>(chosen) / static_cast<double>(options.new_tokens + 1));
    if (no_token_yet) continue;
    if (seconds.prefill == 0) seconds.prefill = seconds_since(start);
  }
  seconds.decode = seconds_since(start) - seconds.prefill;
  return seconds;
}

/// Seconds for a token of each of the sequences, from the step with which all have one until the first ends.
double batch_step_seconds(Engine& engine, const ThroughputOptions& options, int64_t vocab_size,
                          const std::function<void(double)>& progress) {
  for (int64_t i = 0; i < options.batch_size; ++i) engine.add(request(i, options, vocab_size));
  std::set<int64_t> started;
  std::optional<Clock::time_point> all_started;
  int64_t steps = 0;
  double seconds = 0;
  const auto total = static_cast<double>(options.batch_size + options.new_tokens);
  for (bool ended = false; engine.has_work();) {
    const std::span<const TokenEvent> events = engine.step();
    if (all_started && !ended) {
      ++steps;
      seconds = seconds_since(*all_started);
    }
    for (const TokenEvent& event : events) {
      started.insert(event.sequence);
      ended = ended || event.finished.has_value();
    }
    if (!all_started && std::ssize(started) == options.batch_size) all_started = Clock::now();
    progress(std::min(1.0, static_cast<double>(std::ssize(started) + steps) / total));
  }
  if (steps == 0) {
    throw ConfigError("the first of " + std::to_string(options.batch_size) + " sequences had its " +
                      std::to_string(options.new_tokens) +
                      " new tokens before the last began: they need more");
  }
  return seconds / static_cast<double>(steps);
}

double raw_read_seconds(Model& model) {
  struct Piece {
    const SourceTensor* tensor;
    int64_t begin;
    int64_t end;
  };
  std::vector<Piece> pieces;
  for (const SourceTensor& tensor : model.source().tensors()) {
    const int64_t row_bytes = std::max<int64_t>(1, tensor.bytes() / std::max<int64_t>(1, tensor.rows()));
    const int64_t step = std::max<int64_t>(1, kRawReadPiece / row_bytes);
    for (int64_t row = 0; row < tensor.rows(); row += step) {
      pieces.push_back({&tensor, row, std::min(tensor.rows(), row + step)});
    }
  }
  ThreadPool& threads = model.backend().threads();
  std::vector<std::vector<std::byte>> buffers(static_cast<size_t>(threads.threads()));
  const auto start = Clock::now();
  threads.parallel_for(static_cast<int64_t>(pieces.size()), [&](int64_t index, int worker) {
    const Piece& piece = pieces[static_cast<size_t>(index)];
    const int64_t rows = std::max<int64_t>(1, piece.tensor->rows());
    auto& buffer = buffers[static_cast<size_t>(worker)];
    buffer.resize(static_cast<size_t>((piece.end - piece.begin) * (piece.tensor->bytes() / rows)));
    model.source().read_rows(*piece.tensor, piece.begin, piece.end, buffer);
  });
  return seconds_since(start);
}

void check_context(const Engine& engine, const ThroughputOptions& options) {
  const int64_t needed = options.prompt_tokens + options.new_tokens + 1;
  if (options.prompt_tokens < 1 || options.new_tokens < 1 || options.repetitions < 1) {
    throw ConfigError("the numbers of prompt tokens, new tokens and repetitions are at least 1");
  }
  if (options.batch_size < 1 || options.batch_size > engine.options().max_num_seqs) {
    throw ConfigError("a batch of " + std::to_string(options.batch_size) +
                      " sequences was asked for, the engine runs 1 to " +
                      std::to_string(engine.options().max_num_seqs));
  }
  if (needed > engine.options().max_model_len) {
    throw ConfigError("prompt and new tokens need a context of " + std::to_string(needed) +
                      " tokens, the model has " + std::to_string(engine.options().max_model_len));
  }
}

}  // namespace

Throughput measure_throughput(LLM& llm, const ThroughputOptions& options) {
  check_context(llm.engine(), options);
  Model& model = llm.model();
  const StepWork work(model.decoder());
  Ceilings ceilings(model.options().device.isa.value_or(supported_isas().back()), model.backend().threads());
  const bool bf16 = model.decoder().context().precision() == Precision::kBFloat16;

  std::vector<double> prefill;
  std::vector<double> decode;
  std::vector<double> batch_step;
  std::vector<double> sweep;
  std::vector<double> flops;
  for (int64_t repetition = 0; repetition < options.repetitions; ++repetition) {
    sweep.push_back(ceilings.read_seconds(work.pieces));
    flops.push_back(bf16 ? ceilings.bf16_flops() : ceilings.f32_flops());
    const double runs = options.batch_size > 1 ? 2 : 1;
    const auto report = [&](double share) {
      const double done =
          (static_cast<double>(repetition) + share / runs) / static_cast<double>(options.repetitions);
      if (options.progress && !options.progress(done)) throw Interrupted("stopped on request");
    };
    const RunSeconds seconds = run_once(llm.engine(), options, model.spec().vocab_size, report);
    sweep.push_back(ceilings.read_seconds(work.pieces));
    prefill.push_back(seconds.prefill);
    decode.push_back(seconds.decode);
    if (options.batch_size == 1) continue;
    batch_step.push_back(batch_step_seconds(llm.engine(), options, model.spec().vocab_size,
                                            [&](double share) { report(1 + share); }));
    sweep.push_back(ceilings.read_seconds(work.pieces));
  }

  Throughput result;
  const auto prompt_tokens = static_cast<double>(options.prompt_tokens);
  const double prefill_work = 2.0 * (static_cast<double>(work.elements_per_token) * prompt_tokens +
                                     static_cast<double>(work.elements_per_sequence));
  result.multiply_flops = median(flops);
  result.prefill = {.tokens = options.prompt_tokens,
                    .tokens_per_second = prompt_tokens / median(prefill),
                    .ceiling_tokens_per_second = prompt_tokens * result.multiply_flops / prefill_work};
  result.decode = {.tokens = options.new_tokens,
                   .tokens_per_second = static_cast<double>(options.new_tokens) / median(decode),
                   .ceiling_tokens_per_second = 1.0 / median(sweep)};
  result.batch_size = options.batch_size;
  if (options.batch_size > 1) {
    const auto batch = static_cast<double>(options.batch_size);
    const double step_work =
        2.0 * batch * static_cast<double>(work.elements_per_token + work.elements_per_sequence);
    const double least_seconds = std::max(median(sweep), step_work / result.multiply_flops);
    result.batch_decode = {.tokens = options.new_tokens,
                           .tokens_per_second = batch / median(batch_step),
                           .ceiling_tokens_per_second = batch / least_seconds};
  }
  result.decode_bytes_per_token = work.bytes;
  result.read_bytes_per_second = static_cast<double>(work.bytes) / median(sweep);
  const LoadReport& report = model.load_report();
  result.load_seconds = report.seconds;
  result.load_bytes_per_second = static_cast<double>(report.read_bytes) / report.seconds;
  if (model.options().load_format == LoadFormat::kAuto) {
    int64_t file_bytes = 0;
    for (const SourceTensor& tensor : model.source().tensors()) file_bytes += tensor.bytes();
    result.raw_read_bytes_per_second = static_cast<double>(file_bytes) / raw_read_seconds(model);
  }
  result.cpu = cpu_name();
  result.backend = model.backend().describe();
  result.weights_bytes = report.final_bytes;
  result.kv_cache_bytes = llm.engine().cache().bytes();
  result.peak_bytes = report.peak_bytes;
  return result;
}

Json Throughput::to_json() const {
  const auto phase = [](const PhaseThroughput& p) {
    return Json{{"tokens", p.tokens},
                {"tokens_per_second", p.tokens_per_second},
                {"ceiling_fraction", p.ceiling_fraction()}};
  };
  Json batch = nullptr;
  if (batch_decode) {
    batch = phase(*batch_decode);
    batch["sequences"] = batch_size;
    batch["of_one_sequence"] = batch_decode->tokens_per_second / decode.tokens_per_second;
  }
  return {
      {"prefill", phase(prefill)},
      {"decode", phase(decode)},
      {"batch_decode", batch},
      {"load",
       {{"seconds", load_seconds},
        {"gigabytes_per_second", load_bytes_per_second / kGiga},
        {"raw_read_gigabytes_per_second",
         raw_read_bytes_per_second ? Json(*raw_read_bytes_per_second / kGiga) : Json(nullptr)}}},
      {"memory",
       {{"weights_bytes", weights_bytes}, {"kv_cache_bytes", kv_cache_bytes}, {"peak_bytes", peak_bytes}}},
      {"machine",
       {{"cpu", cpu},
        {"backend", backend},
        {"read_gigabytes_per_second", read_bytes_per_second / kGiga},
        {"multiply_gigaflops", multiply_flops / kGiga},
        {"decode_bytes_per_token", decode_bytes_per_token}}}};
}

}  // namespace octet
