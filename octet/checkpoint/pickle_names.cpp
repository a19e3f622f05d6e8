// SPDX-License-Identifier: Apache-2.0
// The names a file of tensors may have in its pickle, and what they mean here.
#include <algorithm>
#include <array>

#include "octet/base/error.h"
#include "octet/base/faults.h"
#include "octet/checkpoint/pickle.h"

namespace octet {
namespace {

enum class Meaning : uint8_t {
  kOrderedDictionary,
  kTensor,
  kTensorWithDtype,
  kParameter,
  kStorage,       ///< with a dtype
  kPlainStorage,  ///< bytes
  kDtype,
};

struct KnownName {
  std::string_view module;
  std::string_view name;
  Meaning meaning;
  DType dtype = DType::kU8;
};

constexpr std::array<KnownName, 30> kNames = {{
    {"collections", "OrderedDict", Meaning::kOrderedDictionary},
    {"torch._utils", "_rebuild_tensor", Meaning::kTensor},
    {"torch._utils", "_rebuild_tensor_v2", Meaning::kTensor},
    {"torch._utils", "_rebuild_tensor_v3", Meaning::kTensorWithDtype},
    {"torch._utils", "_rebuild_parameter", Meaning::kParameter},
    {"torch", "DoubleStorage", Meaning::kStorage, DType::kF64},
    {"torch", "FloatStorage", Meaning::kStorage, DType::kF32},
    {"torch", "HalfStorage", Meaning::kStorage, DType::kF16},
    {"torch", "BFloat16Storage", Meaning::kStorage, DType::kBF16},
    {"torch", "LongStorage", Meaning::kStorage, DType::kI64},
    {"torch", "IntStorage", Meaning::kStorage, DType::kI32},
    {"torch", "ShortStorage", Meaning::kStorage, DType::kI16},
    {"torch", "CharStorage", Meaning::kStorage, DType::kI8},
    {"torch", "ByteStorage", Meaning::kStorage, DType::kU8},
    {"torch", "BoolStorage", Meaning::kStorage, DType::kBool},
    {"torch", "ComplexFloatStorage", Meaning::kStorage, DType::kC64},
    {"torch.storage", "UntypedStorage", Meaning::kPlainStorage},
    {"torch", "UntypedStorage", Meaning::kPlainStorage},
    {"torch", "float8_e4m3fn", Meaning::kDtype, DType::kF8E4M3},
    {"torch", "float8_e5m2", Meaning::kDtype, DType::kF8E5M2},
    {"torch", "float8_e4m3fnuz", Meaning::kDtype, DType::kF8E4M3FNUZ},
    {"torch", "float8_e5m2fnuz", Meaning::kDtype, DType::kF8E5M2FNUZ},
    {"torch", "float8_e8m0fnu", Meaning::kDtype, DType::kF8E8M0},
    {"torch", "uint16", Meaning::kDtype, DType::kU16},
    {"torch", "uint32", Meaning::kDtype, DType::kU32},
    {"torch", "uint64", Meaning::kDtype, DType::kU64},
    {"torch", "bfloat16", Meaning::kDtype, DType::kBF16},
    {"torch", "float16", Meaning::kDtype, DType::kF16},
    {"torch", "float32", Meaning::kDtype, DType::kF32},
    {"torch", "float64", Meaning::kDtype, DType::kF64},
}};

const KnownName& known(PickleValue value) {
  return kNames.at(static_cast<size_t>(value.number));
}

}  // namespace

void Unpickler::push_name(const std::string& module, const std::string& name) {
  const auto it = std::find_if(kNames.begin(), kNames.end(), [&](const KnownName& known) {
    return known.module == module && known.name == name;
  });
  if (it == kNames.end()) {
    input_.fail(
        "it names " + quote(module + "." + name) +
        ", which is none of the few names that a file of tensors needs. Nothing was run, and the file "
        "is not read: a pickle can be made to do anything. Fetch the model as safetensors");
  }
  push({Kind::kName, it - kNames.begin()});
}

void Unpickler::reduce(PickleValue callable, const Values& arguments) {
  const KnownName& name = known(callable);
  switch (name.meaning) {
    case Meaning::kOrderedDictionary:
      return make_ordered_dictionary(arguments);
    case Meaning::kTensor:
    case Meaning::kTensorWithDtype:
      return rebuild_tensor(arguments, name.meaning == Meaning::kTensorWithDtype);
    case Meaning::kParameter:
      if (arguments.empty() || arguments.front().kind != Kind::kTensor)
        input_.fail("a parameter is made from a tensor");
      return push(arguments.front());
    case Meaning::kStorage:
    case Meaning::kPlainStorage:
    case Meaning::kDtype:
      break;
  }
  input_.fail("it calls " + quote(std::string(name.module) + "." + std::string(name.name)) +
              ", which no file of tensors does; nothing was run");
}

void Unpickler::make_ordered_dictionary(const Values& arguments) {
  Entries entries;
  for (const PickleValue argument : arguments) {
    if (argument.kind != Kind::kSequence) input_.fail("an OrderedDict is made from pairs");
    for (const PickleValue item : sequence(argument)) {
      if (item.kind != Kind::kSequence || sequence(item).size() != 2)
        input_.fail("an OrderedDict is made from pairs");
      entries.emplace_back(sequence(item)[0], sequence(item)[1]);
    }
  }
  push_dictionary(std::move(entries));
}

std::vector<int64_t> Unpickler::integers(PickleValue value, std::string_view what) {
  constexpr size_t kMostDimensions = 64;
  std::vector<int64_t> result;
  const bool is_list = value.kind == Kind::kSequence && sequence(value).size() <= kMostDimensions;
  if (is_list) {
    for (const PickleValue item : sequence(value)) {
      if (item.kind == Kind::kInteger) result.push_back(item.number);
    }
  }
  if (!is_list || result.size() != sequence(value).size()) {
    input_.fail("expected the " + std::string(what) + " of a tensor: a tuple of integers");
  }
  return result;
}

void Unpickler::rebuild_tensor(const Values& arguments, bool own_dtype) {
  const size_t least = own_dtype ? 7 : 4;
  if (arguments.size() < least || arguments[0].kind != Kind::kStorage ||
      arguments[1].kind != Kind::kInteger) {
    input_.fail("expected a storage, an offset, sizes and strides for a tensor");
  }
  PickledTensor tensor;
  tensor.storage = static_cast<size_t>(arguments[0].number);
  tensor.offset = arguments[1].number;
  tensor.sizes = integers(arguments[2], "sizes");
  tensor.strides = integers(arguments[3], "strides");
  std::optional<DType> dtype = storages_[tensor.storage].dtype;
  if (own_dtype) {
    if (arguments[6].kind != Kind::kName || known(arguments[6]).meaning != Meaning::kDtype)
      input_.fail("expected the dtype of a tensor");
    dtype = known(arguments[6]).dtype;
  }
  if (!dtype) input_.fail("a tensor and its storage have no dtype");
  if (tensor.sizes.size() != tensor.strides.size())
    input_.fail("a tensor has sizes and strides of different number");
  tensor.dtype = dtype.value();
  count_object();
  tensors_.push_back(std::move(tensor));
  push({Kind::kTensor, static_cast<int64_t>(tensors_.size()) - 1});
}

void Unpickler::load_storage(const Values& id) {
  const bool right = id.size() >= 5 && id[0].kind == Kind::kText && text(id[0]) == "storage" &&
                     id[1].kind == Kind::kName && id[2].kind == Kind::kText && id[4].kind == Kind::kInteger;
  if (!right) input_.fail("expected (\"storage\", type, key, device, elements) as the name of a storage");
  const KnownName& type = known(id[1]);
  if (type.meaning != Meaning::kStorage && type.meaning != Meaning::kPlainStorage) {
    input_.fail("expected the type of a storage, found " +
                quote(std::string(type.module) + "." + std::string(type.name)));
  }
  if (id.size() > 5 && id[5].kind != Kind::kNone)
    input_.fail(
        "storages that are views of others, as the first versions of PyTorch wrote them, are not read");
  if (id[4].number < 0) input_.fail("a storage has " + std::to_string(id[4].number) + " elements");
  PickledStorage storage{.key = text(id[2]), .dtype = {}, .elements = id[4].number};
  if (type.meaning == Meaning::kStorage) storage.dtype = type.dtype;
  count_object();
  storages_.push_back(std::move(storage));
  push({Kind::kStorage, static_cast<int64_t>(storages_.size()) - 1});
}

}  // namespace octet
