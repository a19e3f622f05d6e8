// SPDX-License-Identifier: Apache-2.0
/// Weights made in a test and offered from memory, and the layers' side of a load: destinations and their
/// parameters.
#pragma once

#include <atomic>
#include <cstring>
#include <deque>
#include <random>
#include <string>
#include <vector>

#include "octet/layers/parameter.h"
#include "octet/loading/weight_source.h"

namespace octet {

/// `values` in the bytes of `dtype`, each rounded once.
inline std::vector<std::byte> bytes_of(DType dtype, const std::vector<float>& values) {
  return visit_float(dtype, [&]<class T>() {
    std::vector<std::byte> bytes(values.size() * sizeof(T));
    for (size_t i = 0; i < values.size(); ++i) {
      const T value = from_float<T>(values[i]);
      std::memcpy(bytes.data() + i * sizeof(T), &value, sizeof(T));
    }
    return bytes;
  });
}

inline std::vector<float> floats_of(DType dtype, const std::vector<std::byte>& bytes) {
  return visit_float(dtype, [&]<class T>() {
    std::vector<float> values(bytes.size() / sizeof(T));
    for (size_t i = 0; i < values.size(); ++i) {
      T value;
      std::memcpy(&value, bytes.data() + i * sizeof(T), sizeof(T));
      values[i] = to_float(value);
    }
    return values;
  });
}

/// Normal values, the rows of very different sizes.
inline std::vector<float> normal_values(int64_t rows, int64_t cols, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0F, 0.02F);
  std::vector<float> values;
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t col = 0; col < cols; ++col)
      values.push_back(std::ldexp(normal(random), static_cast<int>(row % 5) - 2));
  }
  return values;
}

class MemorySource final : public WeightSource {
 public:
  void add(const std::string& name, DType dtype, std::vector<int64_t> shape, std::vector<std::byte> bytes) {
    tensors_.push_back({.name = name,
                        .dtype = dtype,
                        .shape = std::move(shape),
                        .file = "a.safetensors",
                        .index = tensors_.size()});
    bytes_.push_back(std::move(bytes));
  }
  void add(const std::string& name, DType dtype, std::vector<int64_t> shape,
           const std::vector<float>& values) {
    add(name, dtype, std::move(shape), bytes_of(dtype, values));
  }
  /// Random values, from the name alone.
  void add(const std::string& name, DType dtype, std::vector<int64_t> shape) {
    const int64_t rows = shape.size() > 1 ? shape[0] : 1;
    const auto values =
        normal_values(rows, shape.back(), static_cast<unsigned>(std::hash<std::string>{}(name)));
    add(name, dtype, std::move(shape), values);
  }
  [[nodiscard]] const std::vector<std::byte>& bytes(const std::string& name) const {
    for (const SourceTensor& tensor : tensors_) {
      if (tensor.name == name) return bytes_[tensor.index];
    }
    throw std::runtime_error("no tensor " + name);
  }
  [[nodiscard]] std::vector<float> floats(const std::string& name, DType dtype) const {
    return floats_of(dtype, bytes(name));
  }
  /// The same tensors in the opposite order.
  [[nodiscard]] MemorySource reversed() const {
    MemorySource other;
    for (size_t i = tensors_.size(); i-- > 0;)
      other.add(tensors_[i].name, tensors_[i].dtype, tensors_[i].shape, bytes_[i]);
    return other;
  }

  [[nodiscard]] std::string describe() const override { return "model"; }
  [[nodiscard]] const std::vector<SourceTensor>& tensors() const override { return tensors_; }
  void read_rows(const SourceTensor& tensor, int64_t begin, int64_t end,
                 std::span<std::byte> into) const override {
    const auto row = bytes_[tensor.index].size() / static_cast<size_t>(tensor.rows());
    check(begin >= 0 && begin < end && end <= tensor.rows() &&
              into.size() == row * static_cast<size_t>(end - begin),
          "a read outside of the tensor");
    std::memcpy(into.data(), bytes_[tensor.index].data() + row * static_cast<size_t>(begin), into.size());
    read_ += static_cast<int64_t>(into.size());
  }
  int64_t read_block(const SourceTensor& tensor, IndexRange rows, IndexRange cols,
                     std::span<std::byte> into) const override {
    const auto size = static_cast<size_t>(dtype_size(tensor.dtype));
    const auto segment = static_cast<size_t>(cols.size()) * size;
    check(rows.begin >= 0 && rows.begin < rows.end && rows.end <= tensor.rows() && cols.begin >= 0 &&
              cols.begin < cols.end && cols.end <= tensor.cols() &&
              into.size() == segment * static_cast<size_t>(rows.size()),
          "a read outside of the tensor");
    for (int64_t row = rows.begin; row < rows.end; ++row) {
      const int64_t first = row * tensor.cols() + cols.begin;
      std::memcpy(into.data() + static_cast<size_t>(row - rows.begin) * segment,
                  bytes_[tensor.index].data() + static_cast<size_t>(first) * size, segment);
    }
    read_ += static_cast<int64_t>(into.size());
    return static_cast<int64_t>(into.size());
  }
  [[nodiscard]] int64_t read_bytes() const { return read_; }

  MemorySource() = default;
  MemorySource(MemorySource&& other) noexcept
      : tensors_(std::move(other.tensors_)), bytes_(std::move(other.bytes_)) {}

 private:
  std::vector<SourceTensor> tensors_;
  std::vector<std::vector<std::byte>> bytes_;
  mutable std::atomic<int64_t> read_{0};
};

/// Owns destinations, as layers do, and the parameters that point to them.
class TestModel {
 public:
  struct Member {
    std::string name;  ///< of the tensor
    int64_t rows = 0;
  };

  StoredMatrix& matrix(const std::vector<Member>& members, int64_t cols, const StorageRule& rule) {
    StoredMatrix& matrix = matrices_.emplace_back();
    matrix.name = members.size() == 1 ? members.front().name : members.front().name + "+";
    matrix.cols = cols;
    matrix.rule = rule;
    for (const Member& member : members) {
      parameters.push_back({.name = member.name,
                            .shape = Shape{member.rows, cols},
                            .destination = &matrix,
                            .offset = matrix.rows,
                            .required = true,
                            .twin = {}});
      matrix.member_rows.push_back(member.rows);
      matrix.rows += member.rows;
    }
    return matrix;
  }
  StoredVector& vector(const std::vector<Member>& members) {
    StoredVector& vector = vectors_.emplace_back();
    vector.name = members.front().name;
    for (const Member& member : members) {
      parameters.push_back({.name = member.name,
                            .shape = Shape{member.rows},
                            .destination = &vector,
                            .offset = vector.size,
                            .required = true,
                            .twin = {}});
      vector.size += member.rows;
    }
    return vector;
  }

  /// Makes parameter `index` the rows `range` of a tensor of `shape`.
  void cut_rows(size_t index, IndexRange range, const Shape& shape) {
    parameters[index].shape = shape;
    parameters[index].slice.rows = range;
  }

  std::vector<Parameter> parameters;

 private:
  std::deque<StoredMatrix> matrices_;
  std::deque<StoredVector> vectors_;
};

}  // namespace octet
