// SPDX-License-Identifier: Apache-2.0
/// A reader of the pickles that PyTorch writes its tensors with. It knows the few names that a file of
/// tensors needs and refuses every other one: nothing that a pickle names is ever looked up, made or run.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "octet/base/file_reader.h"
#include "octet/core/dtype.h"

namespace octet {

/// The bytes of a pickle inside a file, read in pieces of bounded size. One thread at a time.
class PickleInput {
 public:
  /// Bytes [begin, end) of `file`, which must outlive this.
  PickleInput(const FileReader& file, int64_t begin, int64_t end);

  /// Where the next byte lies in the file.
  [[nodiscard]] int64_t position() const { return window_begin_ + static_cast<int64_t>(at_); }
  [[nodiscard]] uint8_t byte();
  /// The next `count` bytes. Throws FormatError where the pickle is shorter, before memory is taken.
  [[nodiscard]] std::string bytes(uint64_t count);
  /// An unsigned number of `count` bytes, at most 8, little-endian.
  [[nodiscard]] uint64_t number(int count);
  /// A text up to the end of the line, which is taken too.
  [[nodiscard]] std::string line();
  [[noreturn]] void fail(std::string_view what) const;

 private:
  void fill();

  const FileReader& file_;
  int64_t end_;
  int64_t window_begin_;
  size_t at_ = 0;
  std::string window_;
};

struct PickledStorage {
  std::string key;
  std::optional<DType> dtype;  ///< nullopt: bytes, whose dtype the tensor says
  int64_t elements = 0;
};

/// A view of a storage, in its elements. Nothing is checked yet against the storage.
struct PickledTensor {
  size_t storage = 0;
  DType dtype = DType::kF32;
  int64_t offset = 0;
  std::vector<int64_t> sizes;
  std::vector<int64_t> strides;
};

/// What a pickle can hold here. `number` is the value, or the place in the table of its kind.
struct PickleValue {
  enum class Kind : uint8_t {
    kMark,
    kNone,
    kBool,
    kInteger,
    kBigInteger,  ///< more than 64 bits: in `texts` as bytes
    kFloat,       ///< its value is of no use here
    kText,
    kSequence,  ///< a tuple or a list
    kDictionary,
    kName,  ///< of a callable or type that is known
    kStorage,
    kTensor,
  };
  Kind kind = Kind::kNone;
  int64_t number = 0;
};

/// Runs one pickle at a time over common tables. Memory is bounded by the number of values, whatever the file
/// claims, and nothing recurses.
class Unpickler {
 public:
  using Kind = PickleValue::Kind;
  using Entries = std::vector<std::pair<PickleValue, PickleValue>>;

  explicit Unpickler(PickleInput& input) : input_(input) {}

  /// The value of the next pickle. Throws FormatError naming the place, and for a refused name the name.
  [[nodiscard]] PickleValue run();

  [[nodiscard]] const std::string& text(PickleValue value) const {
    return texts_[static_cast<size_t>(value.number)];
  }
  [[nodiscard]] const std::vector<PickleValue>& sequence(PickleValue value) const {
    return sequences_[static_cast<size_t>(value.number)];
  }
  [[nodiscard]] const Entries& dictionary(PickleValue value) const {
    return dictionaries_[static_cast<size_t>(value.number)];
  }
  [[nodiscard]] const PickledTensor& tensor(PickleValue value) const {
    return tensors_[static_cast<size_t>(value.number)];
  }
  [[nodiscard]] const std::vector<PickledStorage>& storages() const { return storages_; }

 private:
  using Values = std::vector<PickleValue>;

  bool step(uint8_t opcode);  // false: the pickle ends
  bool step_constant(uint8_t opcode);
  bool step_text(uint8_t opcode);
  bool step_container(uint8_t opcode);
  bool step_memo(uint8_t opcode);
  bool step_call(uint8_t opcode);

  void push(PickleValue value);
  [[nodiscard]] PickleValue pop();
  [[nodiscard]] PickleValue pop(Kind kind, std::string_view what);
  [[nodiscard]] Values pop_to_mark();
  [[nodiscard]] Values few(PickleValue value) const;
  [[nodiscard]] PickleValue& top(Kind kind, std::string_view what);
  void push_text(std::string text);
  void push_integer(std::string bytes);
  void push_sequence(Values values);
  void push_dictionary(Entries entries);
  void set_items(Values items, PickleValue dictionary);
  void append_items(const Values& items, PickleValue sequence);
  void remember(uint64_t key);
  void recall(uint64_t key);
  void count_object();
  void count_items(size_t items);

  void push_name(const std::string& module, const std::string& name);
  void reduce(PickleValue callable, const Values& arguments);
  void make_ordered_dictionary(const Values& arguments);
  void rebuild_tensor(const Values& arguments, bool own_dtype);
  void load_storage(const Values& id);
  [[nodiscard]] std::vector<int64_t> integers(PickleValue value, std::string_view what);

  PickleInput& input_;
  Values stack_;
  std::unordered_map<uint64_t, PickleValue> memo_;
  std::vector<std::string> texts_;
  std::vector<Values> sequences_;
  std::vector<Entries> dictionaries_;
  std::vector<PickledStorage> storages_;
  std::vector<PickledTensor> tensors_;
  size_t objects_ = 0;
  size_t items_ = 0;
};

/// "an integer", "a dictionary", ...: for messages.
[[nodiscard]] std::string_view describe(PickleValue::Kind kind);

}  // namespace octet
