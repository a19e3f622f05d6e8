// SPDX-License-Identifier: Apache-2.0
/// octet logits: the logits at every position of a prompt, for parity checks.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <span>

#include "apps/cli/args.h"
#include "apps/cli/command.h"
#include "apps/cli/format.h"
#include "apps/cli/input.h"
#include "apps/cli/load.h"
#include "apps/cli/npy_file.h"
#include "apps/cli/output_file.h"
#include "apps/cli/signals.h"

namespace octet::cli {
namespace {

struct TopToken {
  int32_t id = 0;
  float logit = 0;
};

/// The `count` largest, largest first; of equal ones the lower id first; NaN last.
std::vector<TopToken> top_tokens(std::span<const float> logits, int64_t count) {
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const auto value = [&](int32_t id) { return logits[static_cast<size_t>(id)]; };
  const auto better = [&](int32_t a, int32_t b) {
    if (std::isnan(value(a)) || std::isnan(value(b)))
      return std::isnan(value(b)) && (!std::isnan(value(a)) || a < b);
    return value(a) != value(b) ? value(a) > value(b) : a < b;
  };
  const auto keep = std::min(static_cast<std::ptrdiff_t>(count), static_cast<std::ptrdiff_t>(order.size()));
  std::partial_sort(order.begin(), order.begin() + keep, order.end(), better);
  std::vector<TopToken> top;
  for (std::ptrdiff_t i = 0; i < keep; ++i)
    top.push_back({order[static_cast<size_t>(i)], value(order[static_cast<size_t>(i)])});
  return top;
}

/// Where rows of logits go, one after the other.
class RowSink {
 public:
  RowSink() = default;
  virtual ~RowSink() = default;
  RowSink(const RowSink&) = delete;
  RowSink& operator=(const RowSink&) = delete;
  virtual void row(std::span<const float> logits) = 0;
  virtual void finish() = 0;
};

class NpySink : public RowSink {
 public:
  NpySink(const std::string& path, int64_t rows, int64_t cols) : file_(path) {
    file_.write(npy_header(rows, cols));
  }
  void row(std::span<const float> logits) override {
    file_.write({reinterpret_cast<const char*>(logits.data()), logits.size_bytes()});
  }
  void finish() override { file_.commit(); }

 private:
  OutputFile file_;
};

/// All logits, without holding them: the object is written piece by piece.
class JsonSink : public RowSink {
 public:
  explicit JsonSink(const std::vector<int32_t>& ids)
      : head_("{\"ids\":" + Json(ids).dump() + ",\"logits\":[") {}
  void row(std::span<const float> logits) override {
    write_out(head_ + Json(std::vector<float>(logits.begin(), logits.end())).dump());
    head_ = ",";
  }
  void finish() override { write_out("]}\n"); }

 private:
  std::string head_;
};

class TopSink : public RowSink {
 public:
  TopSink(const Tokenizer* tokenizer, std::vector<int32_t> ids, int64_t count, bool json)
      : tokenizer_(tokenizer), ids_(std::move(ids)), count_(count), json_(json) {}

  void row(std::span<const float> logits) override {
    const auto top = top_tokens(logits, count_);
    Json list = Json::array();
    for (size_t i = 0; i < top.size(); ++i) {
      const std::string piece = piece_of(top[i].id);
      list.push_back({{"id", top[i].id}, {"piece", piece}, {"logit", top[i].logit}});
      table_.add({i == 0 ? std::to_string(position_) : "", std::to_string(top[i].id),
                  format_number(static_cast<double>(top[i].logit), 4), piece});
    }
    rows_.push_back(std::move(list));
    ++position_;
  }

  void finish() override {
    if (json_) {
      write_json({{"ids", ids_}, {"top", std::move(rows_)}});
    } else {
      write_out(table_.text());
    }
  }

 private:
  [[nodiscard]] std::string piece_of(int32_t id) const {
    return tokenizer_ != nullptr && id < tokenizer_->vocab_size() ? tokenizer_->piece(id) : std::string();
  }

  const Tokenizer* tokenizer_;
  std::vector<int32_t> ids_;
  int64_t count_;
  bool json_;
  int64_t position_ = 0;
  Json rows_ = Json::array();
  Table table_{{{"position", true}, {"id", true}, {"logit", true}, {"piece"}}};
};

class Logits : public Command {
 public:
  void add_options(CLI::App& app) override {
    add_model_argument(app, args_.model);
    given_ids_ = app.add_option("--ids", ids_text_, "the token ids")->type_name("1,2,3");
    given_prompt_ =
        app.add_option("-p,--prompt", prompt_,
                       "a text instead of ids, never through the chat template; \"-\": standard input")
            ->type_name("TEXT")
            ->excludes(app.get_option("--ids"));
    add_number(app, "--top", top_, NumberRange<int64_t>{1, kManyTokens},
               "the N largest logits at each position (a table: 5 unless told)");
    app.add_flag("--json", json_, "one JSON object: ids and logits, or with --top ids and top");
    app.add_option("--output", output_, "write all logits as a NumPy file, float32 [T, V]")
        ->type_name("FILE.npy");
    add_model_options(app, args_);
  }

  void run() override {
    if (given_ids_->count() + given_prompt_->count() == 0) throw UsageError("give --ids 1,2,3 or -p TEXT");
    std::vector<int32_t> ids;
    if (given_ids_->count() > 0) ids = parse_ids(ids_text_, "--ids");
    if (prompt_ == "-") prompt_ = read_standard_input();
    if (!output_.empty()) check_writable(output_);
    const Console console(args_.console);
    if (!args_.options.max_model_len && !ids.empty()) limit_context(static_cast<int64_t>(ids.size()));
    const auto llm = load_model(args_, console);
    if (given_prompt_->count() > 0) ids = llm->encode(prompt_);
    const auto sinks = make_sinks(*llm, ids);
    llm->engine().prompt_logits(ids, [&](int64_t, ConstTensorView logits) {
      check_stop();
      for (int64_t row = 0; row < logits.rows(); ++row) {
        for (const auto& sink : sinks)
          sink->row({logits.row<float>(row), static_cast<size_t>(logits.cols())});
      }
    });
    for (const auto& sink : sinks) sink->finish();
  }

  ModelArgs* model_args() override { return &args_; }

 private:
  /// No cache beyond these ids; too many are left to the engine to refuse.
  void limit_context(int64_t count) {
    if (count <= model_positions(args_)) args_.options.max_model_len = count;
  }

  [[nodiscard]] std::vector<std::unique_ptr<RowSink>> make_sinks(LLM& llm,
                                                                 const std::vector<int32_t>& ids) const {
    std::vector<std::unique_ptr<RowSink>> sinks;
    if (!output_.empty()) {
      sinks.push_back(std::make_unique<NpySink>(output_, static_cast<int64_t>(ids.size()),
                                                llm.model().spec().vocab_size));
    }
    if (json_ && !top_) {
      sinks.push_back(std::make_unique<JsonSink>(ids));
    } else if (top_ || output_.empty()) {
      sinks.push_back(std::make_unique<TopSink>(llm.tokenizer(), ids, top_.value_or(5), json_));
    }
    return sinks;
  }

  ModelArgs args_;
  std::string ids_text_;
  std::string prompt_;
  std::optional<int64_t> top_;
  bool json_ = false;
  std::string output_;
  const CLI::Option* given_ids_ = nullptr;
  const CLI::Option* given_prompt_ = nullptr;
};

}  // namespace

std::unique_ptr<Command> make_logits() {
  return std::make_unique<Logits>();
}

}  // namespace octet::cli
