// SPDX-License-Identifier: Apache-2.0
#include "tests/comm/communicator_checks.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "octet/base/error.h"

namespace octet::test {
namespace {

void expect(bool condition, const std::string& what) {
  if (!condition) throw Error(what);
}

/// Values of which a sum depends on the order.
float value_of(int rank, size_t i) {
  const auto x = static_cast<double>((i * 2654435761U + static_cast<size_t>(rank) * 40503U) % 1000003U);
  return static_cast<float>(std::sin(x) * std::pow(10.0, static_cast<double>(i % 9) - 4.0));
}

std::vector<float> values_of(int rank, size_t size) {
  std::vector<float> values(size);
  for (size_t i = 0; i < size; ++i) values[i] = value_of(rank, i);
  return values;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

void check_reductions(Communicator& c, size_t size) {
  std::vector<float> sum = values_of(0, size);
  std::vector<float> largest = sum;
  for (int rank = 1; rank < c.world_size(); ++rank) {
    for (size_t i = 0; i < size; ++i) {
      sum[i] += value_of(rank, i);
      largest[i] = std::max(largest[i], value_of(rank, i));
    }
  }
  std::vector<float> found = values_of(c.rank(), size);
  c.all_reduce_sum(found);
  expect(same_bits(found, sum), "a sum of " + std::to_string(size) + " is not that in the ranks' order");
  found = values_of(c.rank(), size);
  c.all_reduce_max(found);
  expect(same_bits(found, largest), "a maximum of " + std::to_string(size) + " differs");
}

void check_gathers(Communicator& c) {
  const auto ranks = static_cast<size_t>(c.world_size());
  const auto mine = static_cast<int32_t>(100 + c.rank());
  std::vector<int32_t> all(ranks);
  c.all_gather(std::as_bytes(std::span(&mine, 1)), std::as_writable_bytes(std::span(all)));
  for (size_t r = 0; r < ranks; ++r) expect(all[r] == 100 + static_cast<int32_t>(r), "all_gather's order");

  std::vector<int64_t> sizes;  // one rank gives nothing
  for (size_t r = 0; r < ranks; ++r) sizes.push_back(r == 1 ? 0 : static_cast<int64_t>(3 + r));
  const std::vector<std::byte> given(static_cast<size_t>(sizes[static_cast<size_t>(c.rank())]),
                                     static_cast<std::byte>(c.rank() + 1));
  std::vector<std::byte> expected;
  for (size_t r = 0; r < ranks; ++r)
    expected.insert(expected.end(), static_cast<size_t>(sizes[r]), static_cast<std::byte>(r + 1));
  std::vector<std::byte> room(c.rank() == 0 ? expected.size() : 0);
  c.gather(given, sizes, room);
  expect(c.rank() != 0 || room == expected, "gather's order and sizes");
}

void check_the_rest(Communicator& c) {
  std::vector<int64_t> values(1000, c.rank());
  std::iota(values.begin(), values.end(), 1000 * c.rank());
  c.broadcast_values(std::span(values));
  for (size_t i = 0; i < values.size(); ++i)
    expect(values[i] == static_cast<int64_t>(i), "a broadcast brings what rank 0 has");
  constexpr int64_t kFar = std::numeric_limits<int64_t>::max();
  expect(c.all_reduce_min(kFar - c.rank()) == kFar - (c.world_size() - 1), "the smallest integer");
  expect(c.local_ranks() >= 1 && c.local_ranks() <= c.world_size(), "ranks of this machine");
  c.check();
  c.barrier();
}

void check_refusals(Communicator& c) {
  const auto refused = [](auto&& call) {
    try {
      call();
    } catch (const ArgumentError&) {
      return true;
    }
    return false;
  };
  const std::vector<std::byte> mine(4);
  std::vector<std::byte> small(3);
  expect(refused([&] { c.all_gather(mine, small); }), "all_gather without room must be refused");
  const std::vector<int64_t> sizes(static_cast<size_t>(c.world_size()), 5);
  expect(refused([&] { c.gather(mine, sizes, small); }), "gather of other sizes than said must be refused");
}

}  // namespace

void check_communicator(Communicator& communicator) {
  // Sizes around that of a piece, and more than one of them.
  for (const size_t size : {size_t{0}, size_t{1}, size_t{7}, size_t{65535}, size_t{65536}, size_t{150001}})
    check_reductions(communicator, size);
  check_gathers(communicator);
  check_the_rest(communicator);
  check_refusals(communicator);
}

}  // namespace octet::test
