// SPDX-License-Identifier: Apache-2.0
#include "octet/checkpoint/checkpoint.h"

#include "octet/base/checked_math.h"
#include "octet/base/error.h"
#include "octet/base/faults.h"
#include "octet/checkpoint/checkpoint_folder.h"
#include "octet/checkpoint/safetensors.h"
#include "octet/checkpoint/torch_pickle.h"

namespace octet {
namespace {

/// Opens all, so that every file that is missing or malformed is named at once.
std::vector<std::unique_ptr<TensorFile>> open_all(const std::filesystem::path& folder,
                                                  const CheckpointFiles& found) {
  std::vector<std::unique_ptr<TensorFile>> files;
  Faults faults;
  for (const std::string& name : found.names) {
    try {
      files.push_back(open_tensor_file(folder / name));
    } catch (const FormatError& error) {
      if (found.names.size() == 1) throw;
      faults.add(error.what());
    }
  }
  faults.throw_if_any<FormatError>(folder.string());
  return files;
}

}  // namespace

std::unique_ptr<TensorFile> open_tensor_file(const std::filesystem::path& path) {
  const std::string ending = path.extension().string();
  if (ending == ".safetensors") return std::make_unique<SafetensorsFile>(path);
  if (ending == ".bin") return std::make_unique<TorchPickleFile>(path);
  throw FormatError(path.string() + ": files ending in '" + ending +
                    "' are not read; expected .safetensors or .bin");
}

Checkpoint::Checkpoint(const std::filesystem::path& folder, CheckpointLayout layout) : folder_(folder) {
  const CheckpointFiles found = find_checkpoint_files(folder, layout);
  files_ = open_all(folder, found);
  for (size_t i = 0; i < files_.size(); ++i) {
    for (const TensorInfo& tensor : files_[i]->tensors()) {
      const auto mapped = found.file_of.find(tensor.name);
      if (!found.index_name.empty() && (mapped == found.file_of.end() || mapped->second != i)) {
        unmapped_.push_back(tensor.name);
        continue;
      }
      tensors_.push_back(tensor);
      tensors_.back().file = static_cast<int>(i);
      bytes_ += tensor.bytes;
    }
  }
  for (size_t i = 0; i < tensors_.size(); ++i) by_name_.emplace(tensors_[i].name, i);
  Faults faults;
  for (const auto& [name, file] : found.file_of) {
    if (find(name) == nullptr)
      faults.add("tensor " + quote(name) + " is not in " + quote(found.names[file]) + " as mapped");
  }
  faults.throw_if_any<FormatError>((folder / found.index_name).string());
}

const TensorInfo* Checkpoint::find(std::string_view name) const {
  const auto it = by_name_.find(name);
  return it == by_name_.end() ? nullptr : &tensors_[it->second];
}

std::vector<std::filesystem::path> Checkpoint::files() const {
  std::vector<std::filesystem::path> paths;
  for (const auto& file : files_) paths.push_back(file->path());
  return paths;
}

int64_t Checkpoint::row_bytes(const TensorInfo& tensor) {
  int64_t elements = 1;  // cannot overflow unless a dimension is 0: the file's header was checked
  for (size_t axis = 1; axis < tensor.shape.size(); ++axis) {
    elements = checked_mul(elements, tensor.shape[axis]).value_or(-1);
    check(elements >= 0, "a row of tensor " + quote(tensor.name) + " is too large");
  }
  const auto bits = checked_mul(elements, dtype_bits(tensor.dtype));
  if (!bits || *bits % 8 != 0)
    throw ArgumentError("a row of tensor " + quote(tensor.name) + " is not whole bytes");
  return *bits / 8;
}

void Checkpoint::read_rows(const TensorInfo& tensor, int64_t row_begin, int64_t row_end,
                           std::span<std::byte> into) const {
  check(row_begin >= 0 && row_begin <= row_end && row_end <= tensor.rows(),
        "rows outside tensor " + quote(tensor.name));
  const int64_t bytes = row_bytes(tensor);
  check(checked_mul(row_end - row_begin, bytes) == static_cast<int64_t>(into.size()),
        "the rows of tensor " + quote(tensor.name) + " do not fill the memory given");
  read_bytes(tensor, row_begin * bytes, into);
}

void Checkpoint::read_bytes(const TensorInfo& tensor, int64_t begin, std::span<std::byte> into) const {
  file_of(tensor).read(tensor, begin, into);
}

std::optional<FileExtent> Checkpoint::extent(const TensorInfo& tensor, int64_t begin, int64_t length) const {
  return file_of(tensor).extent(tensor, begin, length);
}

void Checkpoint::drop_cache(const TensorInfo& tensor) const {
  file_of(tensor).drop_cache(tensor);
}

const TensorFile& Checkpoint::file_of(const TensorInfo& tensor) const {
  check(tensor.file >= 0 && static_cast<size_t>(tensor.file) < files_.size(),
        "a tensor of another checkpoint");
  return *files_[static_cast<size_t>(tensor.file)];
}

}  // namespace octet
