// SPDX-License-Identifier: Apache-2.0
#include "octet/checkpoint/checkpoint_writer.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <map>
#include <numeric>

#include "octet/base/json.h"

namespace octet {
namespace {

constexpr const char* kIndexName = "model.safetensors.index.json";

std::string shard_name(size_t index, size_t count) {
  if (count == 1) return "model.safetensors";
  std::array<char, 64> name{};
  std::snprintf(name.data(), name.size(), "model-%05zu-of-%05zu.safetensors", index + 1, count);
  return name.data();
}

/// The first tensor of each shard, and the end.
std::vector<size_t> shard_starts(const std::vector<int64_t>& sizes, int64_t max_shard_bytes) {
  std::vector<size_t> starts = {0};
  int64_t filled = 0;
  for (size_t i = 0; i < sizes.size(); ++i) {
    if (i > starts.back() && filled + sizes[i] > max_shard_bytes) {
      starts.push_back(i);
      filled = 0;
    }
    filled += sizes[i];
  }
  starts.push_back(sizes.size());
  return starts;
}

std::string index_text(const ShardPlan& plan) {
  std::map<std::string, std::string> files;
  for (const ShardPlan::Shard& shard : plan.shards) {
    for (const TensorDeclaration& tensor : shard.tensors) files[tensor.name] = shard.file;
  }
  const Json index = {{"metadata", {{"total_size", plan.tensor_bytes}}}, {"weight_map", files}};
  return index.dump(2) + "\n";
}

}  // namespace

ShardPlan plan_shards(std::span<const TensorDeclaration> tensors, int64_t max_shard_bytes) {
  ShardPlan plan;
  std::vector<int64_t> sizes;
  for (const TensorDeclaration& tensor : tensors) {
    sizes.push_back(tensor_bytes(tensor));
    plan.tensor_bytes += sizes.back();
  }
  plan.places.resize(tensors.size());
  const std::vector<size_t> starts = shard_starts(sizes, max_shard_bytes);
  for (size_t s = 0; s + 1 < starts.size(); ++s) {
    std::vector<size_t> order(starts[s + 1] - starts[s]);
    std::iota(order.begin(), order.end(), starts[s]);
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
      return dtype_bits(tensors[a].dtype) > dtype_bits(tensors[b].dtype);
    });
    ShardPlan::Shard shard{.file = shard_name(s, starts.size() - 1), .tensors = {}};
    for (const size_t index : order) {
      plan.places[index] = {.shard = s, .index = shard.tensors.size()};
      shard.tensors.push_back(tensors[index]);
    }
    plan.file_bytes += safetensors_file_bytes(shard.tensors);
    plan.shards.push_back(std::move(shard));
  }
  if (plan.shards.size() > 1) plan.file_bytes += static_cast<int64_t>(index_text(plan).size());
  return plan;
}

CheckpointWriter::CheckpointWriter(std::filesystem::path folder, const ShardPlan& plan)
    : folder_(std::move(folder)), plan_(plan), writers_(plan.shards.size()), finished_(plan.shards.size()) {}

SafetensorsWriter& CheckpointWriter::writer(size_t shard) {
  const std::lock_guard lock(mutex_);
  if (!writers_[shard]) {
    const ShardPlan::Shard& planned = plan_.shards[shard];
    writers_[shard] = std::make_unique<SafetensorsWriter>(folder_ / planned.file, planned.tensors);
  }
  return *writers_[shard];
}

void CheckpointWriter::write(size_t index, int64_t begin, std::span<const std::byte> bytes) {
  const ShardPlan::Place place = plan_.places.at(index);
  writer(place.shard).write(place.index, begin, bytes);
}

void CheckpointWriter::finish_full_shards() {
  for (size_t i = 0; i < writers_.size(); ++i) {
    if (finished_[i] || !writers_[i] || writers_[i]->remaining() > 0) continue;
    writers_[i]->finish();
    finished_[i] = true;
  }
}

void CheckpointWriter::finish() {
  for (size_t i = 0; i < writers_.size(); ++i) {
    if (finished_[i]) continue;
    writer(i).finish();
    finished_[i] = true;
  }
  if (writers_.size() < 2) return;
  const std::string text = index_text(plan_);
  FileWriter index(folder_ / kIndexName);
  index.write_at(0, std::as_bytes(std::span(text)));
  index.commit();
}

}  // namespace octet
