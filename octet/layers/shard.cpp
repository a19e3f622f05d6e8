// SPDX-License-Identifier: Apache-2.0
#include "octet/layers/shard.h"

#include <algorithm>
#include <string>

#include "octet/base/checked_math.h"
#include "octet/base/error.h"

namespace octet {
namespace {

/// Units that every rank should get, so that one more or less of them is no great difference.
constexpr int64_t kUnitsPerRank = 8;

IndexRange part(int64_t size, int64_t index, int64_t count) {
  return {.begin = size * index / count, .end = size * (index + 1) / count};
}

/// Of several ranks with one key/value head each.
HeadShare shared_head(int64_t queries_per_head, int64_t num_key_value_heads, int64_t rank, int64_t ranks) {
  int64_t head = 0;  // rank r is among those of head h: [ranks * h / Hk, ranks * (h + 1) / Hk)
  while (part(ranks, head, num_key_value_heads).end <= rank) ++head;
  const IndexRange sharers = part(ranks, head, num_key_value_heads);
  const IndexRange queries = part(queries_per_head, rank - sharers.begin, sharers.size());
  const int64_t first = head * queries_per_head;
  return {.query_heads = {.begin = first + queries.begin, .end = first + queries.end},
          .key_value_heads = {.begin = head, .end = head + 1}};
}

}  // namespace

IndexRange width_share(int64_t width, int64_t rank, int64_t ranks) {
  if (width < ranks) {
    throw ConfigError("--tensor-parallel-size " + std::to_string(ranks) + ": a width of this model is " +
                      std::to_string(width) + ", and every rank needs a part of it; take fewer ranks");
  }
  for (const int64_t unit : {int64_t{128}, int64_t{64}, int64_t{16}}) {
    if (width < unit * kUnitsPerRank * ranks) continue;
    const IndexRange units = part(ceil_div(width, unit), rank, ranks);
    return {.begin = units.begin * unit, .end = std::min(width, units.end * unit)};
  }
  return part(width, rank, ranks);
}

HeadShare head_share(int64_t num_attention_heads, int64_t num_key_value_heads,
                     const Communicator& communicator) {
  const int64_t ranks = communicator.world_size();
  if (num_attention_heads < ranks) {
    throw ConfigError("--tensor-parallel-size " + std::to_string(ranks) + ": this model has " +
                      std::to_string(num_attention_heads) +
                      " attention heads, and every rank needs one; take at most " +
                      std::to_string(num_attention_heads));
  }
  const int64_t queries = num_attention_heads / num_key_value_heads;
  if (num_key_value_heads < ranks) {
    return shared_head(queries, num_key_value_heads, communicator.rank(), ranks);
  }
  const IndexRange heads = part(num_key_value_heads, communicator.rank(), ranks);
  return {.query_heads = elements_of(heads, queries), .key_value_heads = heads};
}

}  // namespace octet
