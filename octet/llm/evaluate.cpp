// SPDX-License-Identifier: Apache-2.0
#include "octet/llm/evaluate.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "octet/llm/layerwise.h"

namespace octet {
namespace {

/// Hidden states of the reference that are held at a time; a longer text passes in groups of windows.
constexpr int64_t kStateBudget = int64_t{128} << 20;

using Windows = std::vector<std::vector<int32_t>>;

/// Sums over predicted tokens.
struct Sums {
  int64_t tokens = 0;
  double loss = 0;
  double reference_loss = 0;
  double divergence = 0;
  int64_t agreed = 0;

  void add(const Sums& other) {
    tokens += other.tokens;
    loss += other.loss;
    reference_loss += other.reference_loss;
    divergence += other.divergence;
    agreed += other.agreed;
  }
};

double log_sum_exp(std::span<const float> logits) {
  const auto best = static_cast<double>(*std::max_element(logits.begin(), logits.end()));
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - best);
  return best + std::log(sum);
}

/// KL(p || q) of two distributions given by logits and their log-sum-exps.
double divergence(std::span<const float> p, double p_norm, std::span<const float> q, double q_norm) {
  double sum = 0;
  for (size_t i = 0; i < p.size(); ++i) {
    const double log_p = static_cast<double>(p[i]) - p_norm;
    sum += std::exp(log_p) * (log_p - (static_cast<double>(q[i]) - q_norm));
  }
  return std::max(sum, 0.0);  // exact values are not negative; rounding may be
}

std::span<const float> row_of(ConstTensorView logits, int64_t row) {
  return {logits.row<float>(row), static_cast<size_t>(logits.cols())};
}

/// Windows of the text, each opened by `bos` where there is one. A last window with nothing to predict is
/// left out.
Windows cut(std::span<const int32_t> ids, std::optional<int32_t> bos, int64_t size) {
  Windows windows;
  const size_t fresh = static_cast<size_t>(size) - (bos ? 1 : 0);
  for (size_t first = 0; first < ids.size(); first += fresh) {
    const auto part = ids.subspan(first, std::min(fresh, ids.size() - first));
    std::vector<int32_t> window(part.size() + (bos ? 1 : 0), bos.value_or(0));
    std::copy(part.begin(), part.end(), window.end() - static_cast<int64_t>(part.size()));
    if (window.size() >= 2) windows.push_back(std::move(window));
  }
  return windows;
}

class EvaluateRun {
 public:
  EvaluateRun(LLM& llm, const EvaluateOptions& options, Windows windows)
      : llm_(llm), options_(options), windows_(std::move(windows)) {
    if (!options.reference) return;
    reference_spec_ = std::make_unique<QuantSpec>(reference_options());
    reference_ = std::make_unique<LayerwiseRun>(llm.model(), *reference_spec_, window_size());
  }

  Sums run() {
    const int64_t width = llm_.model().spec().hidden_size * static_cast<int64_t>(sizeof(float));
    const auto per_group = static_cast<size_t>(std::max<int64_t>(1, kStateBudget / (window_size() * width)));
    for (size_t first = 0; first < windows_.size(); first += per_group) {
      const auto group = std::span(windows_).subspan(first, std::min(per_group, windows_.size() - first));
      run_group(first, group);
    }
    return sums_;
  }

 private:
  [[nodiscard]] int64_t window_size() const {
    size_t size = 0;
    for (const auto& window : windows_) size = std::max(size, window.size());
    return static_cast<int64_t>(size);
  }

  void run_group(size_t first, std::span<const std::vector<int32_t>> group) {
    const auto total = static_cast<double>(windows_.size());
    const auto done = static_cast<double>(first);
    const auto size = static_cast<double>(group.size());
    const double reference_share = reference_ ? 0.5 : 0.0;
    if (reference_) {
      reference_->run(group, [&](double share) { report((done + reference_share * share * size) / total); });
    }
    for (size_t w = 0; w < group.size(); ++w) {
      score(w, group[w], [&](double share) {
        const double part = reference_share * size + (1 - reference_share) * (static_cast<double>(w) + share);
        report((done + part) / total);
      });
    }
  }

  void report(double share) const {
    if (options_.progress && !options_.progress(share)) throw Interrupted("stopped on request");
  }

  /// `progress` is called after every piece of logits with the share of the window that is done.
  void score(size_t index, const std::vector<int32_t>& window, const std::function<void(double)>& progress) {
    const auto last = static_cast<int64_t>(window.size()) - 1;
    llm_.engine().prompt_logits(window, [&](int64_t first, ConstTensorView logits) {
      const int64_t rows = std::min(logits.rows(), last - first);
      if (rows <= 0) return;
      ConstTensorView reference;
      if (reference_) reference = reference_->logits(index, first, first + rows);
      scores_.assign(static_cast<size_t>(rows), {});
      llm_.model().backend().threads().parallel_for(rows, [&](int64_t row, int) {
        const int32_t target = window[static_cast<size_t>(first + row + 1)];
        const auto expected = reference_ ? row_of(reference, row) : std::span<const float>();
        scores_[static_cast<size_t>(row)] = score_token(row_of(logits, row), expected, target);
      });
      for (const Sums& token : scores_)
        sums_.add(token);  // in order, so that the sums do not depend on threads
      progress(static_cast<double>(first + rows) / static_cast<double>(last));
    });
  }

  static Sums score_token(std::span<const float> logits, std::span<const float> reference, int32_t target) {
    const double norm = log_sum_exp(logits);
    if (!std::isfinite(norm)) {
      throw DeviceError("the model's logits are not finite: the weights or the options are broken");
    }
    Sums token{.tokens = 1, .loss = norm - static_cast<double>(logits[static_cast<size_t>(target)])};
    if (reference.empty()) return token;
    const double reference_norm = log_sum_exp(reference);
    token.reference_loss = reference_norm - static_cast<double>(reference[static_cast<size_t>(target)]);
    token.divergence = divergence(reference, reference_norm, logits, norm);
    token.agreed = argmax(logits) == argmax(reference) ? 1 : 0;
    return token;
  }

  LLM& llm_;
  const EvaluateOptions& options_;
  Windows windows_;
  std::unique_ptr<QuantSpec> reference_spec_;
  std::unique_ptr<LayerwiseRun> reference_;
  Sums sums_;
  std::vector<Sums> scores_;  // of one piece of logits, a token each
};

std::optional<int32_t> bos_of(const LLM& llm, const DecoderSpec& spec) {
  if (llm.tokenizer() != nullptr && llm.tokenizer()->bos_token_id()) return llm.tokenizer()->bos_token_id();
  return spec.bos_token_id;
}

}  // namespace

std::optional<double> Evaluation::perplexity_ratio() const {
  if (!reference_perplexity) return std::nullopt;
  return perplexity / *reference_perplexity;
}

Json Evaluation::to_json() const {
  const auto or_null = [](const std::optional<double>& value) {
    return value ? Json(*value) : Json(nullptr);
  };
  return {{"tokens", tokens},
          {"perplexity", perplexity},
          {"reference_perplexity", or_null(reference_perplexity)},
          {"perplexity_ratio", or_null(perplexity_ratio())},
          {"kl_divergence", or_null(kl_divergence)},
          {"top1_agreement", or_null(top1_agreement)}};
}

Evaluation evaluate(LLM& llm, std::span<const int32_t> ids, const EvaluateOptions& options) {
  const int64_t window = std::min(options.window, llm.engine().options().max_model_len);
  check(window >= 2, "a window needs at least two tokens");
  Windows windows = cut(ids, bos_of(llm, llm.model().spec()), window);
  if (windows.empty())
    throw ArgumentError("the text has no token to predict: expected at least one, found none");
  const Sums sums = EvaluateRun(llm, options, std::move(windows)).run();
  const auto tokens = static_cast<double>(sums.tokens);
  Evaluation result{.tokens = sums.tokens,
                    .perplexity = std::exp(sums.loss / tokens),
                    .reference_perplexity = {},
                    .kl_divergence = {},
                    .top1_agreement = {}};
  if (options.reference) {
    result.reference_perplexity = std::exp(sums.reference_loss / tokens);
    result.kl_divergence = sums.divergence / tokens;
    result.top1_agreement = static_cast<double>(sums.agreed) / tokens;
  }
  return result;
}

}  // namespace octet
