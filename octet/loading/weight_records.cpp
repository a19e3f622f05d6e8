// SPDX-License-Identifier: Apache-2.0
#include "octet/loading/weight_records.h"

#include "octet/loading/shared_scales.h"
#include "octet/loading/weight_groups.h"

namespace octet {
namespace {

std::vector<int64_t> scale_shape(const MatrixSpec& spec, const Piece& piece) {
  switch (spec.scale_kind) {
    case ScaleKind::kNone:
      return {};
    case ScaleKind::kRow:
      return {piece.rows};
    case ScaleKind::kGrid: {
      const ScaleTable table = scale_table(piece);
      return {table.own_rows.size(), table.own_cols.size()};
    }
  }
  return {};
}

void fill_record(WeightRecord& record, const MatrixSpec& spec, const Piece& piece, const TileResult& result) {
  record.use = TensorUse::kWeight;
  record.elements = piece.rows * piece.cols;
  record.stored_dtype = spec.dtype;
  record.scale_shape = scale_shape(spec, piece);
  int64_t scales = record.scale_shape.empty() ? 0 : 1;
  for (const int64_t size : record.scale_shape) scales *= size;
  record.bytes = record.elements * dtype_size(spec.dtype) + scales * static_cast<int64_t>(sizeof(float));
  record.quantized = piece.kind == PieceKind::kQuantize;
  record.raw_cast = record.quantized && piece.rule.raw_cast;
  record.stats = result.stats;
  record.nonfinite = result.nonfinite;
}

}  // namespace

std::vector<WeightRecord> weight_records(const WeightSource& source, const Bindings& bindings,
                                         std::span<const TileResult> results) {
  std::vector<WeightRecord> records;
  for (const SourceTensor& tensor : source.tensors()) {
    WeightRecord record;
    record.name = tensor.name;
    record.file = tensor.file;
    record.group = weight_group(tensor.name);
    record.source_dtype = tensor.dtype;
    record.shape = tensor.shape;
    record.elements = tensor.elements();
    if (tensor.split) record.use = TensorUse::kSplit;
    records.push_back(std::move(record));
  }
  for (const SourceTensor* tensor : bindings.skipped) records[tensor->index].use = TensorUse::kSkipped;
  for (size_t i = 0; i < bindings.pieces.size(); ++i) {
    const Piece& piece = bindings.pieces[i];
    if (piece.twin != nullptr) records[piece.twin->index].use = TensorUse::kTwin;
    if (piece.scales != nullptr) records[piece.scales->index].use = TensorUse::kScales;
    fill_record(records[piece.source->index], bindings.destinations[piece.destination].spec, piece,
                results[i]);
  }
  return records;
}

}  // namespace octet
