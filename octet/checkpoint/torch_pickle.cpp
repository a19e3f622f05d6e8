// SPDX-License-Identifier: Apache-2.0
#include "octet/checkpoint/torch_pickle.h"

#include <algorithm>
#include <array>
#include <map>
#include <numeric>
#include <optional>
#include <set>
#include <string_view>
#include <variant>

#include "octet/base/checked_math.h"
#include "octet/base/error.h"
#include "octet/base/faults.h"
#include "octet/checkpoint/pickle.h"
#include "octet/checkpoint/zip_directory.h"

namespace octet {
namespace {

using Kind = PickleValue::Kind;

/// 0x1950a86a20f9469cfc6c: how files before PyTorch 1.6 begin.
constexpr std::string_view kOldMagic("\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19", 10);

struct Storages {
  std::map<std::string, ZipExtent> by_key;  // where each lies in the file
};

std::string shape_text(const PickledTensor& tensor) {
  const auto list = [](const std::vector<int64_t>& values) {
    std::string text;
    for (const int64_t value : values) text += (text.empty() ? "" : ", ") + std::to_string(value);
    return "[" + text + "]";
  };
  return "sizes " + list(tensor.sizes) + ", strides " + list(tensor.strides) + ", offset " +
         std::to_string(tensor.offset);
}

}  // namespace

int64_t TorchPickleFile::Layout::place(int64_t run_index) const {
  int64_t at = 0;
  for (size_t axis = sizes.size(); axis-- > 0;) {
    at += run_index % sizes[axis] * strides[axis];
    run_index /= sizes[axis];
  }
  return at;
}

/// Fills a TorchPickleFile while it is constructed.
class TorchPickleFile::Reader {
 public:
  explicit Reader(TorchPickleFile& target) : target_(target), file_(target.file_) {}

  void read() {
    std::array<char, 4> start{};
    if (file_.size() >= static_cast<int64_t>(start.size()))
      file_.read_at(0, std::as_writable_bytes(std::span(start)));
    if (std::string_view(start.data(), 4) == std::string_view("PK\x03\x04", 4)) {
      read_zip();
    } else if (static_cast<uint8_t>(start[0]) == 0x80) {
      read_old();
    } else {
      fail("not a file of torch.save: it begins neither as a zip archive nor as a pickle");
    }
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw FormatError(file_.path().string() + ": " + what);
  }

  void read_zip() {
    const ZipDirectory directory(file_);
    const std::string folder = find_folder(directory);
    refuse_big_endian(directory, folder);
    const ZipExtent pickle = directory.locate(folder + "data.pkl");
    PickleInput input(file_, pickle.offset, pickle.offset + pickle.bytes);
    Unpickler unpickler(input);
    const PickleValue root = unpickler.run();
    Storages storages;
    for (const PickledStorage& storage : unpickler.storages()) {
      if (!storages.by_key.contains(storage.key))
        storages.by_key.emplace(storage.key, directory.locate(folder + "data/" + storage.key));
    }
    take_tensors(unpickler, root, storages);
  }

  /// "archive/": the folder inside the archive, which bears any name.
  [[nodiscard]] std::string find_folder(const ZipDirectory& directory) const {
    constexpr std::string_view kPickle = "/data.pkl";
    std::vector<std::string> found;
    for (const auto& [name, member] : directory.members()) {
      if (name.ends_with(kPickle)) found.push_back(name.substr(0, name.size() - kPickle.size() + 1));
    }
    if (found.size() != 1)
      fail("not a file of torch.save: expected one data.pkl in the archive, found " +
           std::to_string(found.size()));
    return found.front();
  }

  void refuse_big_endian(const ZipDirectory& directory, const std::string& folder) const {
    if (!directory.members().contains(folder + "byteorder")) return;  // of before PyTorch 2.1: little
    const ZipExtent extent = directory.locate(folder + "byteorder");
    std::string order(static_cast<size_t>(std::min<int64_t>(extent.bytes, 16)), '\0');
    file_.read_at(extent.offset, std::as_writable_bytes(std::span(order)));
    if (order != "little") fail("byteorder: expected 'little', found " + quote(order));
  }

  void read_old() {
    PickleInput input(file_, 0, file_.size());
    Unpickler unpickler(input);
    const PickleValue magic = unpickler.run();
    if (magic.kind != Kind::kBigInteger || unpickler.text(magic) != kOldMagic)
      fail("not a file of torch.save: a pickle without its mark");
    const PickleValue protocol = unpickler.run();
    if (protocol.kind != Kind::kInteger || protocol.number != 1001)
      fail("not a file of torch.save that is known: expected protocol 1001");
    refuse_big_endian(unpickler, unpickler.run());
    const PickleValue root = unpickler.run();
    const PickleValue keys = unpickler.run();
    take_tensors(unpickler, root, read_old_storages(unpickler, keys, input.position()));
  }

  void refuse_big_endian(const Unpickler& unpickler, PickleValue system) const {
    if (system.kind != Kind::kDictionary) fail("expected a dictionary that describes the machine");
    for (const auto& [key, value] : unpickler.dictionary(system)) {
      const bool asked = key.kind == Kind::kText && unpickler.text(key) == "little_endian";
      if (asked && (value.kind != Kind::kBool || value.number == 0))
        fail("it comes from a machine with the other order of bytes, which is not read");
    }
  }

  /// After the pickles: for each key, in order, the number of elements in 8 bytes, and the elements.
  Storages read_old_storages(const Unpickler& unpickler, PickleValue keys, int64_t at) const {
    std::map<std::string, const PickledStorage*> known;
    for (const PickledStorage& storage : unpickler.storages()) known.emplace(storage.key, &storage);
    if (keys.kind != Kind::kSequence) fail("expected a list of storages");
    Storages storages;
    for (const PickleValue key : unpickler.sequence(keys)) {
      const auto it = key.kind == Kind::kText ? known.find(unpickler.text(key)) : known.end();
      if (it == known.end() || !it->second->dtype) fail("the list of storages names one that no tensor uses");
      std::array<std::byte, 8> raw{};
      file_.read_at(at, raw);
      uint64_t count = 0;
      for (size_t i = raw.size(); i-- > 0;) count = count << 8 | static_cast<uint64_t>(raw[i]);
      at += static_cast<int64_t>(raw.size());
      if (count != static_cast<uint64_t>(it->second->elements)) {
        fail("storage " + quote(it->first) + ": expected " + std::to_string(it->second->elements) +
             " elements, found " + std::to_string(count));
      }
      const auto bytes =
          checked_mul(it->second->elements, dtype_size(it->second->dtype.value_or(DType::kU8)));
      if (!bytes || *bytes > file_.size() - at) {
        fail("the file is cut short: storage " + quote(it->first) + " has " + std::to_string(count) +
             " elements from byte " + std::to_string(at) + " on (fetch the file again)");
      }
      storages.by_key.emplace(it->first, ZipExtent{.offset = at, .bytes = *bytes});
      at += *bytes;
    }
    return storages;
  }

  void take_tensors(const Unpickler& unpickler, PickleValue root, const Storages& storages) {
    if (root.kind != Kind::kDictionary)
      fail("expected a dictionary of tensors, found " + std::string(describe(root.kind)));
    std::set<std::string_view> names;
    for (const auto& [key, value] : unpickler.dictionary(root)) {
      if (key.kind != Kind::kText) {
        faults_.add("expected the name of a tensor as key, found " + std::string(describe(key.kind)));
      } else if (value.kind != Kind::kTensor) {
        faults_.add(quote(unpickler.text(key)) + ": expected a tensor, found " +
                    std::string(describe(value.kind)));
      } else if (!names.insert(unpickler.text(key)).second) {
        faults_.add("tensor " + quote(unpickler.text(key)) + " occurs twice");
      } else {
        take_tensor(unpickler, unpickler.text(key), unpickler.tensor(value), storages);
      }
    }
    faults_.throw_if_any<FormatError>(file_.path().string());
    sort_tensors();
  }

  void take_tensor(const Unpickler& unpickler, const std::string& name, const PickledTensor& tensor,
                   const Storages& storages) {
    const PickledStorage& storage = unpickler.storages()[tensor.storage];
    const auto extent = storages.by_key.find(storage.key);
    if (extent == storages.by_key.end()) {
      return faults_.add("tensor " + quote(name) + ": its storage " + quote(storage.key) +
                         " is not in the file");
    }
    const int64_t size = dtype_size(tensor.dtype);
    const int64_t held = extent->second.bytes / size;  // elements
    const int64_t claimed = storage.dtype ? storage.elements : storage.elements / size;
    const auto layout = layout_of(tensor, std::min(held, claimed));
    if (claimed > held) {
      faults_.add("tensor " + quote(name) + ": its storage " + quote(storage.key) + " needs " +
                  std::to_string(claimed) + " elements of " + std::to_string(size) + " bytes, found " +
                  std::to_string(extent->second.bytes) + " bytes");
    } else if (const auto* fault = std::get_if<std::string>(&layout)) {
      faults_.add("tensor " + quote(name) + " (" + shape_text(tensor) + "): " + *fault);
    } else {
      TensorInfo info{.name = name, .dtype = tensor.dtype, .shape = tensor.sizes};
      const bool empty = std::find(tensor.sizes.begin(), tensor.sizes.end(), 0) != tensor.sizes.end();
      info.bytes = empty ? 0 : size;
      for (const int64_t length : tensor.sizes) info.bytes *= empty ? 1 : length;  // bounded by the storage
      info.offset = extent->second.offset + tensor.offset * size;
      target_.tensors_.push_back(std::move(info));
      target_.layouts_.push_back(std::get<Layout>(layout));
    }
  }

  /// The runs of a tensor inside a storage of `held` elements; or what is wrong.
  static std::variant<Layout, std::string> layout_of(const PickledTensor& tensor, int64_t held) {
    const int64_t size = dtype_size(tensor.dtype);
    Layout layout{.run = size, .sizes = {}, .strides = {}, .extent = 0};
    if (tensor.offset < 0 || tensor.offset > held) return "it begins outside of its storage";
    if (std::any_of(tensor.sizes.begin(), tensor.sizes.end(), [](int64_t n) { return n < 0; }))
      return "a size is negative";
    if (std::find(tensor.sizes.begin(), tensor.sizes.end(), 0) != tensor.sizes.end()) {
      // Nothing is read of it, but its size must still be one.
      return std::all_of(tensor.sizes.begin(), tensor.sizes.end(),
                         [&](int64_t n) { return n <= (int64_t{1} << 40); })
                 ? std::variant<Layout, std::string>(layout)
                 : "a size is too large";
    }
    int64_t inner = 1;  // elements that the dimensions so far span in the storage
    int64_t run = 1;    // elements of those that follow each other without a gap
    for (size_t axis = tensor.sizes.size(); axis-- > 0;) {
      const int64_t length = tensor.sizes[axis];
      if (length == 1) continue;
      const int64_t stride = tensor.strides[axis];
      if (stride < inner)
        return "its elements do not lie in their own order, each once; save the tensor after .contiguous()";
      const auto last = checked_mul(length - 1, stride);
      const auto span = last ? checked_add(*last, inner) : std::nullopt;
      if (!span || *span > held - tensor.offset)
        return "it leaves its storage of " + std::to_string(held) + " elements";
      if (stride == run && layout.sizes.empty()) {
        run *= length;
      } else {
        layout.sizes.insert(layout.sizes.begin(), length);
        layout.strides.insert(layout.strides.begin(), stride * size);
      }
      inner = *span;
    }
    if (inner > held - tensor.offset) return "it leaves its storage of " + std::to_string(held) + " elements";
    layout.run = run * size;
    layout.extent = inner * size;
    return layout;
  }

  void sort_tensors() {
    std::vector<size_t> order(target_.tensors_.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
      return target_.tensors_[a].offset < target_.tensors_[b].offset;
    });
    std::vector<TensorInfo> tensors;
    std::vector<Layout> layouts;
    for (const size_t index : order) {
      tensors.push_back(std::move(target_.tensors_[index]));
      layouts.push_back(std::move(target_.layouts_[index]));
    }
    target_.tensors_ = std::move(tensors);
    target_.layouts_ = std::move(layouts);
  }

  TorchPickleFile& target_;
  const FileReader& file_;
  Faults faults_;
};

TorchPickleFile::TorchPickleFile(const std::filesystem::path& path) : file_(path) {
  Reader(*this).read();
}

const TorchPickleFile::Layout& TorchPickleFile::layout_of(const TensorInfo& tensor) const {
  const auto [first, last] = std::ranges::equal_range(tensors_, tensor.offset, {}, &TensorInfo::offset);
  const auto it = std::find_if(first, last, [&](const TensorInfo& own) { return own.name == tensor.name; });
  check(it != last, "a tensor of another file: " + tensor.name);
  return layouts_[static_cast<size_t>(it - tensors_.begin())];
}

void TorchPickleFile::read(const TensorInfo& tensor, int64_t begin, std::span<std::byte> into) const {
  const auto length = static_cast<int64_t>(into.size());
  check(begin >= 0 && begin <= tensor.bytes && length <= tensor.bytes - begin, "a read leaves its tensor");
  const Layout& layout = layout_of(tensor);
  int64_t done = 0;
  while (done < length) {
    const int64_t within = (begin + done) % layout.run;
    const int64_t piece = std::min(length - done, layout.run - within);
    file_.read_at(tensor.offset + layout.place((begin + done) / layout.run) + within,
                  into.subspan(static_cast<size_t>(done), static_cast<size_t>(piece)));
    done += piece;
  }
}

std::optional<FileExtent> TorchPickleFile::extent(const TensorInfo& tensor, int64_t begin,
                                                  int64_t length) const {
  check(begin >= 0 && length >= 0 && begin <= tensor.bytes && length <= tensor.bytes - begin,
        "an extent leaves its tensor");
  if (layout_of(tensor).run < tensor.bytes) return std::nullopt;
  return FileExtent{.file = &file_, .offset = tensor.offset + begin, .length = length};
}

void TorchPickleFile::drop_cache(const TensorInfo& tensor) const {
  file_.drop_cache(tensor.offset, layout_of(tensor).extent);
}

}  // namespace octet
