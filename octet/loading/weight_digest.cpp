// SPDX-License-Identifier: Apache-2.0
#include "octet/loading/weight_digest.h"

#include <openssl/evp.h>

#include <algorithm>
#include <array>

#include "octet/base/error.h"

namespace octet {
namespace {

void require(bool done) {
  if (!done) throw DeviceError("SHA-256 cannot be computed: libcrypto refuses it");
}

/// `count` rows from `row` on, as they are stored.
void add_rows(Backend& backend, const QuantMatrixView& matrix, int64_t row, int64_t count, Sha256& sha) {
  const int64_t row_bytes = matrix.cols * dtype_size(matrix.dtype);
  if (row_bytes == 0) return;
  const int64_t step = std::max<int64_t>(1, kDigestBytesAtOnce / row_bytes);
  std::vector<std::byte> bytes(static_cast<size_t>(std::min(step, std::max<int64_t>(count, 0)) * row_bytes));
  for (int64_t begin = row; begin < row + count; begin += step) {
    const int64_t rows = std::min(step, row + count - begin);
    backend.read_rows(matrix, begin, {bytes.data(), matrix.dtype, Shape{rows, matrix.cols}});
    sha.add(std::span(bytes).first(static_cast<size_t>(rows * row_bytes)));
  }
}

void add_scales(std::span<const float> scales, Sha256& sha) {
  sha.add(std::as_bytes(scales));  // every machine that runs Octet is little-endian
}

void add_matrix(Backend& backend, const StoredMatrix& stored, int64_t row, int64_t rows, Sha256& sha) {
  const QuantMatrixView matrix = stored.matrix.view();
  add_rows(backend, matrix, row, rows, sha);
  if (rows == 0) return;
  if (matrix.scale_kind == ScaleKind::kRow)
    add_scales(std::span<const float>(matrix.scales + row, static_cast<size_t>(rows)), sha);
  if (matrix.scale_kind != ScaleKind::kGrid) return;
  const ScalePart& part = matrix.part_of(row);
  const float* const begin = matrix.scales + part.first_scale;
  const int64_t last_band = (rows - 1 + part.row_phase) / part.block_rows;
  add_scales(std::span<const float>(begin, static_cast<size_t>((last_band + 1) * part.grid_cols)), sha);
}

}  // namespace

struct Sha256::State {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
};

Sha256::Sha256() : state_(std::make_unique<State>()) {
  require(state_->context != nullptr);
  require(EVP_DigestInit_ex(state_->context, EVP_sha256(), nullptr) == 1);
}

Sha256::~Sha256() {
  EVP_MD_CTX_free(state_->context);
}

void Sha256::add(std::span<const std::byte> bytes) {
  require(EVP_DigestUpdate(state_->context, bytes.data(), bytes.size()) == 1);
}

std::string Sha256::finish() {
  std::array<unsigned char, 32> digest{};
  unsigned int size = 0;
  require(EVP_DigestFinal_ex(state_->context, digest.data(), &size) == 1 && size == digest.size());
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  for (const unsigned char byte : digest) {
    text += kDigits[byte / 16U];
    text += kDigits[byte % 16U];
  }
  return text;
}

std::vector<WeightDigest> weight_digests(Backend& backend, std::span<const Parameter> parameters) {
  std::vector<WeightDigest> digests;
  for (const Parameter& parameter : parameters) {
    const int64_t whole = parameter.shape.rank() > 0 ? parameter.shape[0] : 1;
    const int64_t rows = parameter.slice.rows ? parameter.slice.rows->size() : whole;
    Sha256 sha;
    if (auto* const* stored = std::get_if<StoredMatrix*>(&parameter.destination)) {
      if ((*stored)->matrix.empty()) continue;
      add_matrix(backend, **stored, parameter.offset, rows, sha);
    } else {
      const Tensor& tensor = std::get<StoredVector*>(parameter.destination)->tensor;
      if (tensor.empty()) continue;
      const int64_t size = dtype_size(tensor.dtype());
      sha.add({tensor.view().data() + parameter.offset * size, static_cast<size_t>(rows * size)});
    }
    digests.push_back({.name = parameter.name, .sha256 = sha.finish()});
  }
  return digests;
}

std::string model_digest(std::vector<WeightDigest> digests) {
  std::sort(digests.begin(), digests.end(),
            [](const WeightDigest& a, const WeightDigest& b) { return a.name < b.name; });
  Sha256 sha;
  for (const WeightDigest& digest : digests) {
    const std::string line = digest.sha256 + "  " + digest.name + "\n";
    sha.add(std::as_bytes(std::span(line)));
  }
  return sha.finish();
}

}  // namespace octet
