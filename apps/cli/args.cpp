// SPDX-License-Identifier: Apache-2.0
#include "apps/cli/args.h"

#include <sstream>

#include "apps/cli/command.h"
#include "apps/cli/input.h"

namespace octet::cli {
namespace {

using OptionalDType = std::optional<DType>;
using OptionalGranularity = std::optional<Granularity>;

constexpr std::array<Choice<OptionalGranularity>, 5> kQuantizations = {{
    {"none", std::nullopt},
    {"fp8", Granularity::kChannel},
    {"fp8_per_tensor", Granularity::kTensor},
    {"fp8_per_channel", Granularity::kChannel},
    {"fp8_per_block", Granularity::kBlock},
}};
constexpr std::array<Choice<DType>, 2> kFp8Formats = {{{"e4m3", DType::kF8E4M3}, {"e5m2", DType::kF8E5M2}}};
constexpr std::array<Choice<NumericsProfile>, 2> kNumerics = {{
    {"vllm", NumericsProfile::kVllm},
    {"compressed-tensors", NumericsProfile::kCompressedTensors},
}};
constexpr std::array<Choice<ActivationScheme>, 4> kSchemes = {{
    {"auto", ActivationScheme::kAuto},
    {"none", ActivationScheme::kNone},
    {"dynamic", ActivationScheme::kDynamic},
    {"static", ActivationScheme::kStatic},
}};
constexpr std::array<Choice<std::optional<bool>>, 3> kPageCache = {{
    {"auto", std::nullopt},
    {"keep", false},
    {"bypass", true},
}};
constexpr std::array<Choice<OptionalDType>, 4> kDTypes = {{
    {"auto", std::nullopt},
    {"float32", DType::kF32},
    {"bfloat16", DType::kBF16},
    {"float16", DType::kF16},
}};
constexpr std::array<Choice<OptionalDType>, 7> kCacheDTypes = {{
    {"auto", std::nullopt},
    {"fp8", DType::kF8E4M3},
    {"fp8_e4m3", DType::kF8E4M3},
    {"fp8_e5m2", DType::kF8E5M2},
    {"bfloat16", DType::kBF16},
    {"float16", DType::kF16},
    {"float32", DType::kF32},
}};
constexpr std::array<Choice<LoadFormat>, 2> kLoadFormats = {
    {{"auto", LoadFormat::kAuto}, {"dummy", LoadFormat::kDummy}}};
constexpr std::array<Choice<std::optional<CpuIsa>>, 6> kIsas = {{
    {"auto", std::nullopt},
    {"portable", CpuIsa::kPortable},
    {"avx2", CpuIsa::kAvx2},
    {"avx512", CpuIsa::kAvx512},
    {"avx512_bf16", CpuIsa::kAvx512Bf16},
    {"amx_bf16", CpuIsa::kAmxBf16},
}};

void add_quantization_options(CLI::App& app, QuantOptions& quant) {
  app.option_defaults()->group("Stored weights");
  add_choice(app, "--quantization", quant.quantization, kQuantizations,
             "how linear layers are stored; fp8 (the default) is fp8_per_channel: one scale per output row");
  add_choice(app, "--fp8-format", quant.fp8_format, kFp8Formats, "the 8 bits of a value (default e4m3)");
  app.add_flag("--raw-cast", quant.raw_cast, "cast to FP8 without scales");
  app.add_flag("--fp8-lm-head,!--no-fp8-lm-head", quant.fp8_lm_head, "store the head in FP8 as well");
  app.add_flag("--fp8-embedding,!--no-fp8-embedding", quant.fp8_embedding,
               "store the embedding in FP8 as well");
  app.add_option(
         "--ignore", quant.ignore,
         "leave these modules unquantized: a name as in the checkpoint, a glob, or re:REGEX; repeatable")
      ->type_name("PATTERN")
      ->expected(1)
      ->take_all();
  add_choice(app, "--numerics", quant.numerics, kNumerics,
             "whose arithmetic is matched to the bit (default vllm)");
  add_choice(app, "--activation-scheme", quant.activation_scheme, kSchemes,
             "how activations enter FP8 multiplies; auto (the default): in FP8 where the device multiplies "
             "FP8 natively");
}

void add_device_options(CLI::App& app, ModelArgs& args) {
  BackendOptions& device = args.options.model.device;
  app.option_defaults()->group("Machine");
  app.add_option("--device", device.device, "auto, cpu, cuda:N, or reference (plain loops, slow)")
      ->type_name("NAME");
  add_number(app, "--threads", device.threads, NumberRange<int>{1, 1024},
             "threads (default: one per core the process may use)");
  add_choice(app, "--isa", device.isa, kIsas, "a lower instruction set than the processor's best");
  add_number(app, "--tensor-parallel-size", args.tensor_parallel_size, NumberRange<int64_t>{1, 1 << 20},
             "over how many processes the model is cut: start them with mpirun -n N octet ...");
}

template <class T>
std::string integers_text(NumberRange<T> range) {
  return "from " + std::to_string(range.min) + " to " + std::to_string(range.max);
}

}  // namespace

std::string range_text(NumberRange<int> range) {
  return integers_text(range);
}
std::string range_text(NumberRange<int64_t> range) {
  return integers_text(range);
}
std::string range_text(NumberRange<uint64_t> range) {
  return integers_text(range);
}
std::string range_text(NumberRange<double> range) {
  std::ostringstream text;
  text << "from " << range.min << " to " << range.max;
  return text.str();
}

CLI::Option* add_size(CLI::App& app, const std::string& name, std::optional<int64_t>& value,
                      const std::string& description) {
  const auto read = [&value, name](const std::string& given) {
    value = parse_size(given);
    if (!value)
      throw CLI::ValidationError(name,
                                 "expected a size such as 2GiB, 512M or 1000000, found \"" + given + "\"");
  };
  return app.add_option_function<std::string>(name, read, description)->type_name("SIZE");
}

void add_console_options(CLI::App& app, Console::Options& options) {
  CLI::Option* quiet = app.add_flag("--quiet", options.quiet, "only results and errors");
  app.add_flag("--verbose", options.verbose, "say more on standard error")->excludes(quiet);
}

void add_model_argument(CLI::App& app, std::string& model) {
  app.add_option("MODEL", model,
                 "a folder in Hugging Face layout, or org/name in the local Hugging Face cache (default: the "
                 "bundled model)")
      ->type_name("");
}

void add_weight_options(CLI::App& app, ModelArgs& args) {
  ModelOptions& model = args.options.model;
  add_quantization_options(app, model.quant);
  add_choice(app, "--dtype", model.dtype, kDTypes, "what is computed in (default: the checkpoint's own)");
  add_choice(app, "--load-format", model.load_format, kLoadFormats,
             "dummy: repeatable random weights, from config.json alone");
  add_choice(app, "--page-cache", model.drop_page_cache, kPageCache,
             "keep: leave the files in it, a later start is quicker; bypass: leave it to others; auto (the "
             "default): bypass where memory is short or the disk about as fast as loading");
  app.add_flag("--allow-nonfinite", model.allow_nonfinite,
               "count NaN and infinity in weights instead of refusing them");
  add_device_options(app, args);
  app.option_defaults()->group("Options");
  add_console_options(app, args.console);
}

void add_cache_dtype_option(CLI::App& app, ModelArgs& args) {
  app.option_defaults()->group("Keys and values");
  add_choice(app, "--kv-cache-dtype", args.options.kv_cache_dtype, kCacheDTypes,
             "how keys and values are stored; auto (the default): in the model's dtype");
}

void add_model_options(CLI::App& app, ModelArgs& args) {
  add_weight_options(app, args);
  add_cache_dtype_option(app, args);
  add_size(app, "--kv-cache-memory", args.options.kv_cache_memory,
           "memory for keys and values (default: what the context needs, at most what is left)");
  add_number(app, "--max-model-len", args.options.max_model_len, NumberRange<int64_t>{1, kManyTokens},
             "tokens of a prompt and its answer (default: the model's)");
  add_number(app, "--max-num-seqs", args.options.max_num_seqs, NumberRange<int64_t>{1, kManySequences},
             "sequences that run together (default 1)");
  app.option_defaults()->group("Options");
  app.add_option("--load-report", args.load_report,
                 "write what was loaded, how, and the memory it took, as JSON")
      ->type_name("FILE");
  app.add_flag(
      "--digest", args.digest,
      "tell the SHA-256 of every weight as it is held (codes, then scales): on standard error, and as "
      "\"digests\" in --load-report and --json");
}

void ModelArgs::check() const {
  try {
    const QuantSpec spec(options.model.quant);
  } catch (const ConfigError& error) {
    throw UsageError(error.what());
  }
}

}  // namespace octet::cli
