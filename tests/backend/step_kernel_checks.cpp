// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <initializer_list>
#include <new>
#include <random>
#include <vector>

#include "octet/backend/cpu/attention_scratch.h"
#include "octet/core/float8.h"
#include "tests/backend/ops_kernel_checks.h"

namespace octet::test {
namespace {

std::vector<float> random_floats(std::mt19937& random, int64_t count, float deviation = 1.0F) {
  std::normal_distribution<float> normal(0.0F, deviation);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = normal(random);
  return values;
}

constexpr int64_t kHeads = 2;
/// One divides neither a chunk nor a partition.
constexpr int64_t kBlockSizes[] = {24, 64};
constexpr int64_t kBlocks = 30;
constexpr int64_t kKeys = 600;  // reaches into a second partition

/// A cache of one dtype, blocks in a mixed order, with the same values as float32 by position.
struct Cache {
  DType dtype;
  int64_t head_dim;
  std::vector<std::byte> data[2];
  std::vector<float> scales[2];
  std::vector<float> wide[2];  // [kKeys, D] of one head
  std::vector<int32_t> blocks;

  int64_t block_size;
  float value_factor = 1;  // of FP8 scales
  int64_t head = 1;

  Cache(DType stored, int64_t dim, std::mt19937& random, int64_t keys_in_block, float factor = 1.0F,
        int64_t used_head = 1)
      : dtype(stored), head_dim(dim), block_size(keys_in_block), value_factor(factor), head(used_head) {
    for (int32_t b = 0; b < kBlocks; ++b) blocks.push_back((b * 7 + 3) % static_cast<int32_t>(kBlocks));
    const int64_t vectors = kBlocks * kHeads * block_size;
    for (int side = 0; side < 2; ++side) {
      data[side].resize(static_cast<size_t>(vectors * dim * dtype_size(stored)));
      scales[side].assign(static_cast<size_t>(vectors), 1.0F);
      wide[side].resize(static_cast<size_t>(kKeys * dim));
      for (int64_t position = 0; position < kKeys; ++position) fill(side, position, random);
    }
  }
  [[nodiscard]] int64_t vector_of(int64_t position) const {
    const int64_t block = blocks[static_cast<size_t>(position / block_size)];
    return (block * kHeads + head) * block_size + position % block_size;
  }
  void fill(int side, int64_t position, std::mt19937& random) {
    const int64_t vector = vector_of(position);
    const std::vector<float> x = random_floats(random, head_dim);
    float scale = 1.0F;
    if (is_fp8(dtype)) {
      scale = 0.25F + 0.001F * static_cast<float>(position);
      // Every third position as it is: a chunk has scales of both kinds.
      if (side == 1 && position % 3 != 1) scale *= value_factor;
      scales[side][static_cast<size_t>(vector)] = scale;
    }
    for (int64_t d = 0; d < head_dim; ++d) {
      const float stored = put(side, position, d, x[static_cast<size_t>(d)]);
      wide[side][static_cast<size_t>(position * head_dim + d)] = scale * stored;
    }
  }
  /// Returns what is stored.
  float put(int side, int64_t position, int64_t d, float value) {
    return visit_float(dtype, [&]<class T>() {
      const T stored = from_float<T>(value);
      const int64_t element = vector_of(position) * head_dim + d;
      std::memcpy(data[side].data() + element * static_cast<int64_t>(sizeof(T)), &stored, sizeof(T));
      return to_float(stored);
    });
  }
};

/// Everything that a tile points to.
struct Memory {
  int64_t stride;
  std::vector<float> scratch;
  std::vector<float> part;
  std::vector<float> total;

  explicit Memory(int64_t head_dim)
      : stride((head_dim + kHeadPadding - 1) / kHeadPadding * kHeadPadding),
        scratch(static_cast<size_t>(AttentionScratchLayout(head_dim).floats())) {
    part.resize(static_cast<size_t>(kTileQueries * (2 + stride)));
    total.assign(part.size(), 0.0F);
    std::fill_n(total.begin(), kTileQueries, -std::numeric_limits<float>::infinity());
  }
  static AttentionState state(std::vector<float>& memory) {
    return {.largest = memory.data(),
            .sum = memory.data() + kTileQueries,
            .out = memory.data() + 2 * kTileQueries};
  }
  void attend(const AttentionKernels& kernels, const AttentionTile& tile) {
    const AttentionScratch working = AttentionScratchLayout(stride).at(scratch.data());
    kernels.prepare(tile, working);
    for (int64_t p = 0; p * kPartitionKeys < kKeys; ++p) {
      kernels.partition(tile, p, working, state(part));
      kernels.merge(tile, state(part), state(total));
    }
    kernels.finish(tile, state(total));
  }
};

AttentionTile tile_over(const Cache& cache) {
  AttentionTile tile;
  tile.keys = cache.data[0].data();
  tile.values = cache.data[1].data();
  tile.key_scales = cache.scales[0].data();
  tile.value_scales = cache.scales[1].data();
  tile.dtype = cache.dtype;
  tile.block_size = cache.block_size;
  tile.heads = kHeads;
  tile.head_dim = cache.head_dim;
  tile.blocks = cache.blocks.data();
  tile.head = cache.head;
  tile.scale = 1.0F / std::sqrt(static_cast<float>(cache.head_dim));
  return tile;
}

void add_query(AttentionTile& tile, const float* q, float* y, int64_t begin, int64_t end) {
  tile.q[tile.count] = q;
  tile.y[tile.count] = y;
  tile.begin[tile.count] = begin;
  tile.end[tile.count] = end;
  ++tile.count;
}

std::vector<double> exact_attention(const Cache& cache, const float* q, double scale, int64_t begin,
                                    int64_t end) {
  std::vector<double> out(static_cast<size_t>(cache.head_dim));
  double sum = 0;
  for (int64_t j = begin; j < end; ++j) {
    double dot = 0;
    for (int64_t d = 0; d < cache.head_dim; ++d) {
      dot += static_cast<double>(q[d]) *
             static_cast<double>(cache.wide[0][static_cast<size_t>(j * cache.head_dim + d)]);
    }
    const double weight = std::exp(scale * dot);
    sum += weight;
    for (int64_t d = 0; d < cache.head_dim; ++d) {
      out[static_cast<size_t>(d)] +=
          weight * static_cast<double>(cache.wide[1][static_cast<size_t>(j * cache.head_dim + d)]);
    }
  }
  for (double& value : out) value /= sum;
  return out;
}

}  // namespace

void expect_accurate_silu(const ElementwiseKernels& kernels) {
  std::vector<float> gates;
  for (float gate = -110.0F; gate < 110.0F; gate += 0.0371F) gates.push_back(gate);
  const std::vector<float> ups(gates.size(), 1.5F);
  std::vector<float> y(gates.size());
  kernels.silu_mul(gates.data(), ups.data(), static_cast<int64_t>(gates.size()), y.data());
  for (size_t i = 0; i < gates.size(); ++i) {
    const double gate = static_cast<double>(gates[i]);
    const double expected = gate / (1.0 + std::exp(-gate)) * 1.5;
    EXPECT_NEAR(static_cast<double>(y[i]), expected, 4e-7 * std::fabs(expected) + 1e-36) << gate;
  }
}

void expect_bits_independent_of_place(const ElementwiseKernels& kernels) {
  std::mt19937 random(5);
  const std::vector<float> gate = random_floats(random, 70, 4.0F);
  const std::vector<float> up = random_floats(random, 70);
  std::vector<float> whole(70);
  kernels.silu_mul(gate.data(), up.data(), 70, whole.data());
  for (size_t i = 0; i < whole.size(); ++i) {
    float alone = 0;
    kernels.silu_mul(gate.data() + i, up.data() + i, 1, &alone);
    EXPECT_EQ(alone, whole[i]) << i;
  }
}

namespace {

/// Queries that see different keys, against sums in float64.
void expect_accurate(const AttentionKernels& kernels, const Cache& cache, std::mt19937& random) {
  const int64_t head_dim = cache.head_dim;
  const double unit = std::max(1.0, static_cast<double>(cache.value_factor));
  const std::vector<float> q = random_floats(random, 7 * head_dim);
  std::vector<float> y(q.size());
  AttentionTile tile = tile_over(cache);
  const std::pair<int64_t, int64_t> seen[] = {{0, 1},   {0, 31},    {0, 512},  {0, 599},
                                              {0, 600}, {490, 530}, {520, 600}};
  for (int64_t m = 0; m < 7; ++m)
    add_query(tile, q.data() + m * head_dim, y.data() + m * head_dim, seen[m].first, seen[m].second);
  Memory(head_dim).attend(kernels, tile);
  for (int64_t m = 0; m < 7; ++m) {
    const auto expected =
        exact_attention(cache, tile.q[m], static_cast<double>(tile.scale), seen[m].first, seen[m].second);
    for (int64_t d = 0; d < head_dim; ++d) {
      const double exact = expected[static_cast<size_t>(d)];
      EXPECT_NEAR(static_cast<double>(tile.y[m][d]), exact, 2e-5 * (unit + std::fabs(exact)))
          << to_string(cache.dtype) << ", head of " << head_dim << ", values times " << unit << ", query "
          << m << ", column " << d;
    }
  }
}

/// A query's bits in a full tile, whose keys are widened once, and alone, where they are widened at each use.
void expect_independent_of_tile(const AttentionKernels& kernels, const Cache& cache, std::mt19937& random) {
  const int64_t dim = cache.head_dim;
  const std::vector<float> q = random_floats(random, kTileQueries * dim);
  std::vector<float> together(q.size());
  AttentionTile tile = tile_over(cache);
  const auto begin_of = [](int64_t m) { return m % 5 == 4 ? int64_t{100} : 0; };
  const auto end_of = [](int64_t m) {  // groups of six, four and two, and single ones
    return m < 8 ? int64_t{600} : m < 24 ? int64_t{571} + m / 4 : int64_t{552} + m;
  };
  for (int64_t m = 0; m < kTileQueries; ++m) {
    add_query(tile, q.data() + m * dim, together.data() + m * dim, begin_of(m), end_of(m));
  }
  Memory(dim).attend(kernels, tile);
  for (int64_t m = 0; m < kTileQueries; ++m) {
    std::vector<float> alone(static_cast<size_t>(dim));
    AttentionTile one = tile_over(cache);
    add_query(one, q.data() + m * dim, alone.data(), begin_of(m), end_of(m));
    Memory(dim).attend(kernels, one);
    EXPECT_EQ(std::memcmp(alone.data(), together.data() + m * dim, static_cast<size_t>(dim) * sizeof(float)),
              0)
        << to_string(cache.dtype) << ", head of " << dim << ", query " << m;
  }
}

/// Bytes before and after which nothing can be read.
class Guarded {
 public:
  explicit Guarded(const std::vector<std::byte>& bytes) : bytes_(bytes.size()) {
    const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
    first_ = page;
    size_ = (bytes_ + page - 1) / page * page + 2 * page;
    pages_ = static_cast<std::byte*>(
        ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (pages_ == MAP_FAILED) throw std::bad_alloc();
    std::memcpy(pages_ + first_, bytes.data(), bytes_);
    ::mprotect(pages_, page, PROT_NONE);
    ::mprotect(pages_ + size_ - page, page, PROT_NONE);
  }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;
  ~Guarded() { ::munmap(pages_, size_); }
  [[nodiscard]] const std::byte* data() const { return pages_ + first_; }

 private:
  size_t bytes_;
  size_t first_ = 0;
  size_t size_ = 0;
  std::byte* pages_ = nullptr;
};

/// The head whose block has the cache's first vector, by a single query and by a full tile.
void expect_nothing_read_before(const AttentionKernels& kernels, const Cache& cache, int queries,
                                std::mt19937& random) {
  const Guarded keys(cache.data[0]);
  const Guarded values(cache.data[1]);
  const std::vector<float> q = random_floats(random, queries * cache.head_dim);
  std::vector<float> y(q.size());
  AttentionTile tile = tile_over(cache);
  tile.keys = keys.data();
  tile.values = values.data();
  for (int64_t m = 0; m < queries; ++m) {
    add_query(tile, q.data() + m * cache.head_dim, y.data() + m * cache.head_dim, 0, kKeys);
  }
  Memory(cache.head_dim).attend(kernels, tile);
  const auto expected = exact_attention(cache, tile.q[0], static_cast<double>(tile.scale), 0, kKeys);
  for (int64_t d = 0; d < cache.head_dim; ++d) {
    EXPECT_NEAR(static_cast<double>(y[static_cast<size_t>(d)]), expected[static_cast<size_t>(d)], 4e-5)
        << to_string(cache.dtype) << ", " << queries << " queries, column " << d;
  }
}

constexpr DType kCacheDTypes[] = {DType::kF32, DType::kF16, DType::kBF16, DType::kF8E4M3, DType::kF8E5M2};
/// Within what a weight can take beside it, and beyond.
constexpr float kValueFactors[] = {1.0F, 0x1p-16F, 0x1p59F, 0x1p63F, 0x1p100F};

}  // namespace

void expect_accurate_attention(const AttentionKernels& kernels) {
  std::mt19937 random(6);
  for (const int64_t block_size : kBlockSizes) {
    for (const DType dtype : kCacheDTypes) {
      for (const int64_t head_dim : {8, 20, 64, 80, 112, 128, 144})
        expect_accurate(kernels, Cache(dtype, head_dim, random, block_size), random);
    }
    for (const DType dtype : {DType::kF8E4M3, DType::kF8E5M2}) {
      for (const float factor : kValueFactors)
        expect_accurate(kernels, Cache(dtype, 64, random, block_size, factor), random);
    }
  }
}

void expect_attention_independent_of_tile(const AttentionKernels& kernels,
                                          std::initializer_list<int64_t> head_dims) {
  std::mt19937 random(7);
  for (const DType dtype : kCacheDTypes) {
    for (const int64_t head_dim : head_dims) {
      const int64_t block_size = kBlockSizes[head_dim % 32 == 0 ? 1 : 0];
      expect_independent_of_tile(kernels, Cache(dtype, head_dim, random, block_size), random);
    }
  }
}

void expect_scaled_attention_independent_of_tile(const AttentionKernels& kernels) {
  std::mt19937 random(11);
  for (const float factor : kValueFactors) {
    expect_independent_of_tile(kernels, Cache(DType::kF8E4M3, 64, random, 24, factor), random);
  }
}

void expect_attention_inside_of_cache(const AttentionKernels& kernels) {
  std::mt19937 random(8);
  for (const int64_t block_size : kBlockSizes) {
    for (const DType dtype : kCacheDTypes) {
      const Cache cache(dtype, 64, random, block_size, 1.0F, 0);
      expect_nothing_read_before(kernels, cache, 1, random);
      expect_nothing_read_before(kernels, cache, kTileQueries, random);
    }
  }
}

void expect_attention_of_latent_vectors(const AttentionKernels& kernels) {
  std::mt19937 random(9);
  for (const DType dtype : kCacheDTypes) {
    for (const int64_t head_dim : {96, 576}) {
      Cache cache(dtype, head_dim, random, 64);
      cache.data[1] = cache.data[0];
      cache.scales[1] = cache.scales[0];
      cache.wide[1] = cache.wide[0];
      const std::vector<float> q = random_floats(random, 20 * head_dim);
      std::vector<float> y(q.size());
      AttentionTile tile = tile_over(cache);
      tile.values = tile.keys;
      for (int64_t m = 0; m < 20; ++m)
        add_query(tile, q.data() + m * head_dim, y.data() + m * head_dim, 0, kKeys - 19 + m);
      Memory(head_dim).attend(kernels, tile);
      for (int64_t m = 0; m < 20; ++m) {
        const auto expected =
            exact_attention(cache, tile.q[m], static_cast<double>(tile.scale), 0, kKeys - 19 + m);
        for (int64_t d = 0; d < head_dim; ++d) {
          EXPECT_NEAR(static_cast<double>(tile.y[m][d]), expected[static_cast<size_t>(d)], 4e-5)
              << to_string(dtype) << ", head of " << head_dim << ", query " << m << ", column " << d;
        }
      }
    }
  }
}

void expect_attention_of_infinite_elements(const AttentionKernels& kernels) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  std::mt19937 random(10);
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    Cache cache(dtype, 64, random, 24);
    const std::vector<float> q = random_floats(random, 4 * 64);
    const auto attend = [&](const int64_t(&ends)[4]) {
      std::vector<float> y(q.size());
      AttentionTile tile = tile_over(cache);
      for (int64_t m = 0; m < 4; ++m) add_query(tile, q.data() + m * 64, y.data() + m * 64, 0, ends[m]);
      Memory(64).attend(kernels, tile);
      return y;
    };
    const int64_t ends[] = {70, 81, 90, 100};
    const std::vector<float> finite = attend(ends);
    // Of keys and values that only some see: the others keep their bits.
    cache.put(0, 81, 3, q[2 * 64 + 3] > 0 ? -kInfinity : kInfinity);  // a score of minus infinity
    cache.put(1, 90, 5, kInfinity);
    cache.put(1, 95, 6, std::numeric_limits<float>::quiet_NaN());
    const std::vector<float> y = attend(ends);
    EXPECT_TRUE(std::equal(y.begin(), y.begin() + 2 * 64, finite.begin())) << to_string(dtype);
    for (int64_t d = 0; d < 64; ++d) {
      cache.wide[0][static_cast<size_t>(81 * 64 + d)] = -1000.0F * q[static_cast<size_t>(2 * 64 + d)];
    }
    const auto expected = exact_attention(cache, q.data() + 2 * 64, 0.125, 0, 90);
    for (size_t d = 0; d < 64; ++d) {
      EXPECT_NEAR(static_cast<double>(y[2 * 64 + d]), expected[d], 4e-5) << to_string(dtype) << ", " << d;
    }
    EXPECT_TRUE(std::isnan(y[3 * 64 + 6])) << to_string(dtype);
    EXPECT_FALSE(std::isfinite(y[3 * 64 + 5])) << to_string(dtype);
  }
}

}  // namespace octet::test
