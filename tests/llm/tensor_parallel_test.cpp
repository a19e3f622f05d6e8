// SPDX-License-Identifier: Apache-2.0
// What a model that is cut over ranks promises: its shards are, byte for byte, parts of the weights that one
// rank would hold; and its logits are those of one rank, as near as sums in another order can be.
#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cstring>
#include <map>
#include <mutex>

#include "octet/engine/engine.h"
#include "octet/llm/follow.h"
#include "octet/llm/llm.h"
#include "tests/comm/thread_world.h"
#include "tests/llm/golden_folder.h"
#include "tests/support/source_dir.h"

namespace octet {
namespace {

using test::run_ranks;

struct Case {
  std::string name;
  QuantOptions quant;
};

std::vector<Case> storages() {
  std::vector<Case> cases;
  for (const NumericsProfile numerics : {NumericsProfile::kVllm, NumericsProfile::kCompressedTensors}) {
    for (const Granularity granularity : {Granularity::kTensor, Granularity::kChannel, Granularity::kBlock}) {
      QuantOptions quant;
      quant.quantization = granularity;
      quant.numerics = numerics;
      quant.fp8_lm_head = quant.fp8_embedding = true;
      cases.push_back({std::string(to_string(granularity)) + " " + std::string(to_string(numerics)), quant});
      quant.fp8_format = DType::kF8E5M2;
      cases.push_back({cases.back().name + " e5m2", quant});
    }
  }
  QuantOptions raw;
  raw.raw_cast = true;
  cases.push_back({"raw cast", raw});
  QuantOptions plain;
  plain.quantization.reset();
  cases.push_back({"unquantized", plain});
  return cases;
}

std::filesystem::path golden(const std::string& name) {
  for (const char* group : {"models", "more_models"}) {
    const auto path = source_dir() / "tests/golden" / group / name;
    if (std::filesystem::exists(path / "config.json")) return path;
  }
  throw ArgumentError("no golden folder " + name);
}
std::filesystem::path demo() {
  return source_dir() / "models/demo";
}

ModelOptions options_of(const QuantOptions& quant, Communicator* communicator = nullptr) {
  ModelOptions options;
  options.quant = quant;
  options.device.threads = 1;
  options.communicator = communicator;
  return options;
}

/// The weights of one rank, and which of their elements the ranks of a cut model hold.
class Whole {
 public:
  Whole(const std::filesystem::path& folder, const QuantOptions& quant) : model_(folder, options_of(quant)) {
    model_.load();
    parameters_ = model_.decoder().parameters();
    for (const Parameter& parameter : parameters_) {
      by_name_[parameter.name] = &parameter;
      held_[parameter.name].resize(static_cast<size_t>(parameter.shape.elements()));
    }
  }

  /// Compares all that a rank holds; "" when it is the same. May be called from all ranks at once.
  std::string compare(Model& shard) {
    const std::scoped_lock lock(mutex_);
    for (const Parameter& parameter : shard.decoder().parameters()) {
      const Parameter& whole = *by_name_.at(parameter.name);
      const std::string fault = std::holds_alternative<StoredMatrix*>(parameter.destination)
                                    ? compare_matrix(parameter, whole)
                                    : compare_vector(parameter, whole);
      if (!fault.empty()) return parameter.name + ": " + fault;
    }
    return {};
  }

  /// The first weight of which no rank holds some element, or "".
  [[nodiscard]] std::string uncovered() const {
    for (const auto& [name, held] : held_) {
      if (std::find(held.begin(), held.end(), 0) != held.end()) return name;
    }
    return {};
  }

  [[nodiscard]] Model& model() { return model_; }

 private:
  std::string compare_matrix(const Parameter& part, const Parameter& whole) {
    const QuantMatrixView a = std::get<StoredMatrix*>(part.destination)->matrix.view();
    const QuantMatrixView b = std::get<StoredMatrix*>(whole.destination)->matrix.view();
    if (a.dtype != b.dtype || a.scale_kind != b.scale_kind) return "is stored in another form";
    const IndexRange rows = part.slice.rows.value_or(IndexRange{0, part.shape[0]});
    const IndexRange cols = part.slice.cols.value_or(IndexRange{0, part.shape[1]});
    const auto size = static_cast<size_t>(dtype_size(a.dtype));
    for (int64_t r = rows.begin; r < rows.end; ++r) {
      for (int64_t c = cols.begin; c < cols.end; ++c) {
        const int64_t row = part.offset + r - rows.begin;
        const int64_t col = c - cols.begin;
        const bool same = std::memcmp(a.element(row, col), b.element(whole.offset + r, c), size) == 0 &&
                          std::bit_cast<uint32_t>(a.scale(row, col)) ==
                              std::bit_cast<uint32_t>(b.scale(whole.offset + r, c));
        if (!same) return "element " + std::to_string(r) + ", " + std::to_string(c) + " differs";
        held_[part.name][static_cast<size_t>(r * part.shape[1] + c)] = 1;
      }
    }
    return {};
  }

  std::string compare_vector(const Parameter& part, const Parameter& whole) {
    const auto& a = *std::get<StoredVector*>(part.destination);
    const auto& b = *std::get<StoredVector*>(whole.destination);
    const IndexRange range = part.slice.rows.value_or(IndexRange{0, part.shape[0]});
    if (range.size() == 0) return {};
    const int64_t size = dtype_size(b.tensor.view().dtype());
    const bool same = a.tensor.view().dtype() == b.tensor.view().dtype() &&
                      std::memcmp(a.tensor.view().data() + part.offset * size,
                                  b.tensor.view().data() + (whole.offset + range.begin) * size,
                                  static_cast<size_t>(range.size() * size)) == 0;
    if (!same) return "differs";
    for (int64_t i = range.begin; i < range.end; ++i) held_[part.name][static_cast<size_t>(i)] = 1;
    return {};
  }

  Model model_;
  std::vector<Parameter> parameters_;
  std::map<std::string, const Parameter*> by_name_;
  std::map<std::string, std::vector<char>> held_;
  std::mutex mutex_;
};

void expect_shards_of(const std::filesystem::path& folder, const Case& c, int ranks) {
  Whole whole(folder, c.quant);
  run_ranks(ranks, [&](Communicator& communicator) {
    Model shard(folder, options_of(c.quant, &communicator));
    const LoadReport& report = shard.load();
    EXPECT_EQ(whole.compare(shard), "")
        << folder << " " << c.name << " rank " << communicator.rank() << " of " << ranks;
    EXPECT_EQ(report.final_bytes, report.predicted_final_bytes) << folder << " " << c.name;
    EXPECT_LE(report.peak_bytes, report.predicted_peak_bytes) << folder << " " << c.name;
    EXPECT_TRUE(report.unused.empty());
  });
  EXPECT_EQ(whole.uncovered(), "") << folder << " " << c.name;
}

TEST(TensorParallel, ShardsPutTogetherAreTheWeightsOfOneRank) {
  for (const char* folder : {"llama_tied", "llama_bias", "llama_linear", "mistral_full", "qwen2_tied",
                             "qwen3", "llama_llama3_float16", "opt", "opt_post_norm", "qwen2_moe",
                             "mixtral_fused", "qwen3_moe_transposed", "glm4_moe_lite", "deepseek_v2_lite"}) {
    for (const Case& c : storages()) {
      for (const int ranks : {2, 3}) expect_shards_of(golden(folder), c, ranks);
    }
  }
}

TEST(TensorParallel, ShardsThatBeginInsideABlockOfScalesAreThoseOfOneRank) {
  for (const Case& c : storages()) {
    if (c.quant.quantization == Granularity::kBlock) expect_shards_of(demo(), c, 3);
  }
}

TEST(TensorParallel, EachRankReadsItsOwnSlicesAlone) {
  QuantOptions plain;
  plain.quantization.reset();
  Whole whole(demo(), plain);
  const int64_t all = whole.model().load_report().read_bytes;
  std::array<int64_t, 2> read{};
  run_ranks(2, [&](Communicator& communicator) {
    Model shard(demo(), options_of(plain, &communicator));
    read.at(static_cast<size_t>(communicator.rank())) = shard.load().read_bytes;
  });
  const DecoderSpec& spec = whole.model().spec();
  const int64_t norms =
      (2 * spec.num_hidden_layers + 1) * spec.hidden_size * 2;  // both ranks hold them, in BF16
  EXPECT_EQ(read[0] + read[1], all + norms);
  EXPECT_NEAR(static_cast<double>(read[0]), static_cast<double>(all) / 2, 0.01 * static_cast<double>(all));
}

/// Logits of a prompt, by rank 0 with the help of the others.
std::vector<float> logits(const std::filesystem::path& folder, const ModelOptions& options, int ranks) {
  std::vector<int32_t> ids;
  for (int32_t i = 0; i < 40; ++i) ids.push_back((i * 7 + 3) % 60);
  std::vector<float> all;
  run_ranks(ranks, [&](Communicator& communicator) {
    LlmOptions llm_options;
    llm_options.model = options;
    llm_options.model.communicator = &communicator;
    llm_options.max_model_len = 40;
    LLM llm(folder, llm_options);
    if (communicator.rank() != 0) return follow(llm);
    llm.engine().prompt_logits(ids, [&](int64_t, ConstTensorView rows) {
      for (int64_t row = 0; row < rows.rows(); ++row)
        all.insert(all.end(), rows.row<float>(row), rows.row<float>(row) + rows.cols());
    });
    end_followers(communicator);
  });
  return all;
}

TEST(TensorParallel, LogitsAreThoseOfOneRankWithinWhatTheOrderOfSumsAllows) {
  for (const char* folder :
       {"llama_tied", "llama_bias", "llama_linear", "mistral_full", "mistral_window", "qwen2_window", "qwen3",
        "opt", "opt_post_norm", "qwen2_moe", "mixtral_fused", "glm4_moe_lite", "deepseek_v3"}) {
    ModelOptions options = options_of({});
    for (const bool exact : {true, false}) {
      options.dtype = exact ? DType::kF32 : DType::kBF16;
      const auto one = logits(golden(folder), options, 1);
      // At most 100 products are added in another order in each of 3 layers with 2 sums and a head: each sum
      // may be off by that many roundings of float32. In bfloat16, one that falls on the other side of a tie
      // moves an activation by one part in 256.
      const double bound = exact ? 7 * 100 * 0x1p-24 : 7 * 0x1p-8;
      for (const int ranks : {2, 3})
        EXPECT_LE(test::relative_difference(logits(golden(folder), options, ranks), one), bound)
            << folder << " " << ranks << (exact ? " float32" : " bfloat16");
    }
  }
}

TEST(TensorParallel, TheSameRunGivesTheSameBits) {
  const ModelOptions options = options_of({});
  EXPECT_EQ(logits(golden("llama_bias"), options, 3), logits(golden("llama_bias"), options, 3));
}

TEST(TensorParallel, MoreRanksThanHeadsAreRefused) {
  EXPECT_THROW(run_ranks(5,
                         [&](Communicator& communicator) {
                           const Model model(golden("qwen3"), options_of({}, &communicator));
                         }),
               ConfigError);
}

}  // namespace
}  // namespace octet
