// SPDX-License-Identifier: Apache-2.0
#include "tests/conformance/pairwise.h"

#include "tests/conformance/random.h"

namespace octet::conformance {
namespace {

/// Which pairs of values no case has yet.
class OpenPairs {
 public:
  explicit OpenPairs(const std::vector<size_t>& levels) {
    for (const size_t count : levels) {
      offsets_.push_back(values_);
      values_ += count;
    }
    open_.assign(values_ * values_, false);
    for (size_t f = 0; f < levels.size(); ++f) {
      for (size_t g = f + 1; g < levels.size(); ++g) {
        for (size_t a = 0; a < levels[f]; ++a) {
          for (size_t b = 0; b < levels[g]; ++b) set(f, a, g, b);
        }
      }
    }
  }

  [[nodiscard]] bool any() const { return left_ > 0; }

  /// How many open pairs value `a` of factor `f` closes with the factors before it.
  [[nodiscard]] size_t gain(const std::vector<size_t>& row, size_t f) const {
    size_t sum = 0;
    for (size_t g = 0; g < f; ++g) sum += open_[place(g, row[g], f, row[f])] ? 1 : 0;
    return sum;
  }

  void close(const std::vector<size_t>& row) {
    for (size_t f = 0; f < row.size(); ++f) {
      for (size_t g = 0; g < f; ++g) {
        const size_t at = place(g, row[g], f, row[f]);
        if (open_[at]) --left_;
        open_[at] = false;
      }
    }
  }

 private:
  void set(size_t f, size_t a, size_t g, size_t b) {
    open_[place(f, a, g, b)] = true;
    ++left_;
  }
  [[nodiscard]] size_t place(size_t f, size_t a, size_t g, size_t b) const {
    return (offsets_[f] + a) * values_ + offsets_[g] + b;
  }

  std::vector<size_t> offsets_;
  size_t values_ = 0;
  size_t left_ = 0;
  std::vector<bool> open_;
};

struct Attempt {
  std::vector<size_t> row;
  size_t gain = 0;
};

/// A case that begins with random values and takes, factor by factor, the value that closes the most pairs.
Attempt attempt(const std::vector<size_t>& levels, const OpenPairs& open, Random& random) {
  Attempt result;
  result.row.assign(levels.size(), 0);
  for (size_t f = 0; f < levels.size(); ++f) {
    const auto start = static_cast<size_t>(random.below(static_cast<int64_t>(levels[f])));
    size_t best = start;
    size_t best_gain = 0;
    for (size_t i = 0; i < levels[f]; ++i) {
      result.row[f] = (start + i) % levels[f];
      const size_t gain = open.gain(result.row, f);
      if (gain > best_gain) best = result.row[f], best_gain = gain;
    }
    result.row[f] = best;
    result.gain += best_gain;
  }
  return result;
}

}  // namespace

std::vector<std::vector<size_t>> pairwise_cases(const std::vector<size_t>& levels) {
  constexpr int kAttempts = 20;
  OpenPairs open(levels);
  Random random(1);
  std::vector<std::vector<size_t>> cases;
  while (open.any()) {
    Attempt best;
    for (int i = 0; i < kAttempts; ++i) {
      Attempt next = attempt(levels, open, random);
      if (next.gain > best.gain) best = std::move(next);
    }
    if (best.gain == 0) continue;
    open.close(best.row);
    cases.push_back(std::move(best.row));
  }
  return cases;
}

}  // namespace octet::conformance
