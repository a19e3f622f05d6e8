// SPDX-License-Identifier: Apache-2.0
#include "octet/checkpoint/safetensors_header.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "octet/base/checked_math.h"
#include "octet/base/error.h"
#include "octet/base/faults.h"
#include "octet/base/json.h"

namespace octet {
namespace {

const Json* member(const Json& object, std::string_view name) {
  const auto it = object.find(std::string(name));
  return it == object.end() ? nullptr : &*it;
}

/// A list of integers, each at least 0 and within int64_t.
std::optional<std::vector<int64_t>> sizes(const Json* list) {
  if (list == nullptr || !list->is_array()) return std::nullopt;
  std::vector<int64_t> result;
  for (const Json& item : *list) {
    if (!item.is_number_unsigned() || item.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX))
      return std::nullopt;
    result.push_back(static_cast<int64_t>(item.get<uint64_t>()));
  }
  return result;
}

/// What a file says, short enough for a message.
std::string found(const Json* value) {
  if (value == nullptr) return "nothing";
  if (value->is_structured() && value->size() > 16)
    return "a list or object of " + std::to_string(value->size());
  return quote(value->dump(-1, ' ', true), 80);
}

/// Bytes of a tensor; empty when that overflows or is not whole.
std::optional<int64_t> needed_bytes(DType dtype, const std::vector<int64_t>& shape) {
  std::optional<int64_t> elements = 1;
  for (const int64_t size : shape) {
    elements = checked_mul(*elements, size);
    if (!elements) return std::nullopt;
  }
  const auto bits = checked_mul(*elements, dtype_bits(dtype));
  if (!bits || *bits % 8 != 0) return std::nullopt;
  return *bits / 8;
}

class HeaderReader {
 public:
  HeaderReader(std::string_view source, int64_t data_begin, int64_t data_bytes)
      : source_(source), data_begin_(data_begin), data_bytes_(data_bytes) {}

  SafetensorsHeader read(std::string_view text) {
    if (!text.starts_with('{'))
      throw FormatError(std::string(source_) + ": the header does not begin with '{'");
    const Json json = parse_json(text, std::string(source_) + " (header)");
    for (const auto& [name, value] : json.items()) {
      if (name == "__metadata__") {
        read_metadata(value);
      } else {
        read_tensor(name, value);
      }
    }
    // Tensors whose place is unknown would show up as holes: their own faults come first and alone.
    faults_.throw_if_any<FormatError>(source_);
    check_coverage();
    faults_.throw_if_any<FormatError>(source_);
    return std::move(header_);
  }

 private:
  void read_metadata(const Json& value) {
    if (!value.is_object()) return faults_.add("__metadata__: expected an object, found " + found(&value));
    for (const auto& [key, text] : value.items()) {
      if (text.is_string()) {
        header_.metadata.emplace(key, text.get<std::string>());
      } else {
        faults_.add("__metadata__: " + quote(key) + ": expected a string, found " + found(&text));
      }
    }
  }

  void read_tensor(const std::string& name, const Json& value) {
    const std::string who = "tensor " + quote(name) + ": ";
    if (!value.is_object()) return faults_.add(who + "expected an object, found " + found(&value));
    const Json* type = member(value, "dtype");
    const auto dtype = type != nullptr && type->is_string() ? parse_dtype(type->get_ref<const std::string&>())
                                                            : std::optional<DType>();
    const auto shape = sizes(member(value, "shape"));
    const auto range = sizes(member(value, "data_offsets"));
    if (!dtype) faults_.add(who + "dtype: expected a type of the format, found " + found(type));
    if (!shape)
      faults_.add(who + "shape: expected integers of at least 0, found " + found(member(value, "shape")));
    const bool in_order = range && range->size() == 2 && (*range)[0] <= (*range)[1];
    if (!in_order) {
      faults_.add(who + "data_offsets: expected [begin, end], found " + found(member(value, "data_offsets")));
    }
    if (!dtype || !shape || !in_order) return;
    place({.name = name,
           .dtype = *dtype,
           .shape = *shape,
           .bytes = (*range)[1] - (*range)[0],
           .offset = (*range)[0]});
  }

  /// `offset` still counts from the beginning of the data here.
  void place(TensorInfo tensor) {
    const auto needed = needed_bytes(tensor.dtype, tensor.shape);
    const std::string what = std::string(to_string(tensor.dtype)) + " " + quote(tensor.shape_text());
    if (!needed) {
      faults_.add("tensor " + quote(tensor.name) + ": the size of " + what +
                  " overflows or is not whole bytes");
    } else if (*needed != tensor.bytes) {
      faults_.add("tensor " + quote(tensor.name) + ": " + what + " needs " + std::to_string(*needed) +
                  " bytes, found data_offsets of " + std::to_string(tensor.bytes));
    } else {
      header_.tensors.push_back(std::move(tensor));
    }
  }

  void check_coverage() {
    std::stable_sort(header_.tensors.begin(), header_.tensors.end(),
                     [](const TensorInfo& a, const TensorInfo& b) {
                       return std::pair(a.offset, a.bytes) < std::pair(b.offset, b.bytes);
                     });
    int64_t end = 0;  // of what the tensors so far cover
    const TensorInfo* last = nullptr;
    for (TensorInfo& tensor : header_.tensors) {
      if (tensor.offset < end) {
        faults_.add("tensor " + quote(tensor.name) + " overlaps tensor " + quote(last->name) +
                    ": it begins at byte " + std::to_string(tensor.offset) +
                    " of the data, the other ends at " + std::to_string(end));
      }
      if (tensor.offset > end) add_hole(end, tensor.offset);
      if (tensor.offset + tensor.bytes >= end) {
        end = tensor.offset + tensor.bytes;
        last = &tensor;
      }
    }
    if (end > data_bytes_) {
      faults_.add("the file is cut short: expected " + std::to_string(end) +
                  " bytes of data up to the end of tensor " + quote(last->name) + ", found " +
                  std::to_string(data_bytes_) + " (fetch the file again)");
    } else if (end < data_bytes_) {
      add_hole(end, data_bytes_);
    }
    for (TensorInfo& tensor : header_.tensors) tensor.offset += data_begin_;
  }

  void add_hole(int64_t begin, int64_t end) {
    faults_.add("bytes " + std::to_string(begin) + " to " + std::to_string(end) +
                " of the data belong to no tensor");
  }

  std::string_view source_;
  int64_t data_begin_;
  int64_t data_bytes_;
  Faults faults_;
  SafetensorsHeader header_;
};

}  // namespace

std::string TensorInfo::shape_text() const {
  std::string text = "[";
  for (size_t axis = 0; axis < shape.size(); ++axis)
    text += (axis > 0 ? ", " : "") + std::to_string(shape[axis]);
  return text + "]";
}

SafetensorsHeader parse_safetensors_header(std::string_view text, std::string_view source, int64_t data_begin,
                                           int64_t data_bytes) {
  return HeaderReader(source, data_begin, data_bytes).read(text);
}

}  // namespace octet
