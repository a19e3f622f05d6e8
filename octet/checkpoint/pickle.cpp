// SPDX-License-Identifier: Apache-2.0
// The stack machine of Python's pickle protocols 2 to 5 (opcodes as in Python's pickletools), as far as files
// of tensors go.
#include "octet/checkpoint/pickle.h"

#include <algorithm>
#include <iterator>

#include "octet/base/error.h"
#include "octet/base/faults.h"

namespace octet {
namespace {

constexpr size_t kMostObjects = size_t{1} << 20;
constexpr size_t kMostItems = size_t{1} << 22;
constexpr size_t kDeepestStack = size_t{1} << 20;
constexpr size_t kMostArguments = 16;
constexpr int kNewestProtocol = 5;

std::string hex(uint8_t opcode) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  return {'0', 'x', kDigits[opcode >> 4], kDigits[opcode & 15U]};
}

}  // namespace

std::string_view describe(PickleValue::Kind kind) {
  switch (kind) {
    case PickleValue::Kind::kMark:
      return "a mark";
    case PickleValue::Kind::kNone:
      return "None";
    case PickleValue::Kind::kBool:
      return "a boolean";
    case PickleValue::Kind::kInteger:
    case PickleValue::Kind::kBigInteger:
      return "an integer";
    case PickleValue::Kind::kFloat:
      return "a float";
    case PickleValue::Kind::kText:
      return "a text";
    case PickleValue::Kind::kSequence:
      return "a tuple or list";
    case PickleValue::Kind::kDictionary:
      return "a dictionary";
    case PickleValue::Kind::kName:
      return "a type or function";
    case PickleValue::Kind::kStorage:
      return "a storage";
    case PickleValue::Kind::kTensor:
      return "a tensor";
  }
  return "unknown";
}

PickleValue Unpickler::run() {
  stack_.clear();
  memo_.clear();
  while (step(input_.byte())) {
  }
  return pop();
}

bool Unpickler::step(uint8_t opcode) {
  constexpr uint8_t kStop = '.';
  if (opcode == kStop) return false;
  if (!step_constant(opcode) && !step_text(opcode) && !step_container(opcode) && !step_memo(opcode) &&
      !step_call(opcode)) {
    input_.fail("opcode " + hex(opcode) + " is none that a file of tensors needs; nothing was run");
  }
  return true;
}

bool Unpickler::step_constant(uint8_t opcode) {
  switch (opcode) {
    case 0x80:  // PROTO
      if (const uint8_t protocol = input_.byte(); protocol > kNewestProtocol)
        input_.fail("protocol " + std::to_string(protocol) + " is newer than any known");
      return true;
    case 0x95:  // FRAME: only a hint for readers that buffer
      (void)input_.number(8);
      return true;
    case 'N':
      push({Kind::kNone});
      return true;
    case 0x88:  // NEWTRUE
    case 0x89:  // NEWFALSE
      push({Kind::kBool, opcode == 0x88 ? 1 : 0});
      return true;
    case 'K':  // BININT1
      push({Kind::kInteger, static_cast<int64_t>(input_.number(1))});
      return true;
    case 'M':  // BININT2
      push({Kind::kInteger, static_cast<int64_t>(input_.number(2))});
      return true;
    case 'J':  // BININT
      push({Kind::kInteger, static_cast<int32_t>(static_cast<uint32_t>(input_.number(4)))});
      return true;
    case 'G':  // BINFLOAT
      (void)input_.number(8);
      push({Kind::kFloat});
      return true;
    case 0x8a:  // LONG1
      push_integer(input_.bytes(input_.number(1)));
      return true;
    case 0x8b:  // LONG4
      push_integer(input_.bytes(input_.number(4)));
      return true;
    default:
      return false;
  }
}

bool Unpickler::step_text(uint8_t opcode) {
  switch (opcode) {
    case 'X':  // BINUNICODE
    case 'T':  // BINSTRING
    case 'B':  // BINBYTES
      push_text(input_.bytes(input_.number(4)));
      return true;
    case 0x8c:  // SHORT_BINUNICODE
    case 'U':   // SHORT_BINSTRING
    case 'C':   // SHORT_BINBYTES
      push_text(input_.bytes(input_.number(1)));
      return true;
    case 0x8d:  // BINUNICODE8
    case 0x8e:  // BINBYTES8
      push_text(input_.bytes(input_.number(8)));
      return true;
    default:
      return false;
  }
}

bool Unpickler::step_container(uint8_t opcode) {
  switch (opcode) {
    case '(':  // MARK
      push({Kind::kMark});
      return true;
    case '0':  // POP
      (void)pop();
      return true;
    case '1':  // POP_MARK
      (void)pop_to_mark();
      return true;
    case '2':  // DUP
      if (stack_.empty()) input_.fail("the stack is empty");
      push(stack_.back());
      return true;
    case ')':  // EMPTY_TUPLE
    case ']':  // EMPTY_LIST
      push_sequence({});
      return true;
    case 0x85:  // TUPLE1
    case 0x86:  // TUPLE2
    case 0x87:  // TUPLE3
    {
      Values values(static_cast<size_t>(opcode - 0x84));
      for (size_t i = values.size(); i-- > 0;) values[i] = pop();
      push_sequence(std::move(values));
      return true;
    }
    case 't':  // TUPLE
    case 'l':  // LIST
      push_sequence(pop_to_mark());
      return true;
    case 'a':  // APPEND
    {
      const Values items = {pop()};
      append_items(items, top(Kind::kSequence, "a list to append to"));
      return true;
    }
    case 'e':  // APPENDS
    {
      const Values items = pop_to_mark();
      append_items(items, top(Kind::kSequence, "a list to append to"));
      return true;
    }
    case '}':  // EMPTY_DICT
      push_dictionary({});
      return true;
    case 'd':  // DICT
    {
      Values items = pop_to_mark();
      push_dictionary({});
      set_items(std::move(items), stack_.back());
      return true;
    }
    case 's':  // SETITEM
    {
      Values items(2);
      items[1] = pop();
      items[0] = pop();
      set_items(std::move(items), top(Kind::kDictionary, "a dictionary to set an item of"));
      return true;
    }
    case 'u':  // SETITEMS
    {
      Values items = pop_to_mark();
      set_items(std::move(items), top(Kind::kDictionary, "a dictionary to set items of"));
      return true;
    }
    default:
      return false;
  }
}

bool Unpickler::step_memo(uint8_t opcode) {
  switch (opcode) {
    case 'q':  // BINPUT
      remember(input_.number(1));
      return true;
    case 'r':  // LONG_BINPUT
      remember(input_.number(4));
      return true;
    case 0x94:  // MEMOIZE
      remember(memo_.size());
      return true;
    case 'h':  // BINGET
      recall(input_.number(1));
      return true;
    case 'j':  // LONG_BINGET
      recall(input_.number(4));
      return true;
    default:
      return false;
  }
}

bool Unpickler::step_call(uint8_t opcode) {
  switch (opcode) {
    case 'c':  // GLOBAL
    {
      const std::string module = input_.line();
      push_name(module, input_.line());
      return true;
    }
    case 0x93:  // STACK_GLOBAL
    {
      const std::string name = text(pop(Kind::kText, "a name"));
      push_name(text(pop(Kind::kText, "the name of a module")), name);
      return true;
    }
    case 'R':  // REDUCE
    {
      const Values arguments = few(pop(Kind::kSequence, "arguments"));
      reduce(pop(Kind::kName, "something to call"), arguments);
      return true;
    }
    case 'b':  // BUILD: the attributes of a dictionary, such as a module's versions, are of no use here
      (void)pop();
      (void)top(Kind::kDictionary, "a dictionary with attributes");
      return true;
    case 'Q':  // BINPERSID
      load_storage(few(pop(Kind::kSequence, "the description of a storage")));
      return true;
    default:
      return false;
  }
}

void Unpickler::push(PickleValue value) {
  if (stack_.size() == kDeepestStack)
    input_.fail("the stack is deeper than " + std::to_string(kDeepestStack));
  stack_.push_back(value);
}

PickleValue Unpickler::pop() {
  if (stack_.empty()) input_.fail("the stack is empty");
  const PickleValue value = stack_.back();
  if (value.kind == Kind::kMark) input_.fail("expected a value, found a mark");
  stack_.pop_back();
  return value;
}

PickleValue Unpickler::pop(Kind kind, std::string_view what) {
  const PickleValue value = top(kind, what);
  stack_.pop_back();
  return value;
}

PickleValue& Unpickler::top(Kind kind, std::string_view what) {
  if (stack_.empty()) input_.fail("the stack is empty");
  if (stack_.back().kind != kind) {
    input_.fail("expected " + std::string(what) + ", found " + std::string(describe(stack_.back().kind)));
  }
  return stack_.back();
}

Unpickler::Values Unpickler::few(PickleValue value) const {
  const Values& values = sequence(value);
  if (values.size() > kMostArguments)
    input_.fail("a call has " + std::to_string(values.size()) + " arguments, more than any known");
  return values;
}

Unpickler::Values Unpickler::pop_to_mark() {
  const auto mark = std::find_if(stack_.rbegin(), stack_.rend(),
                                 [](PickleValue value) { return value.kind == Kind::kMark; });
  if (mark == stack_.rend()) input_.fail("expected a mark on the stack, found none");
  Values values(mark.base(), stack_.end());
  stack_.erase(std::prev(mark.base()), stack_.end());
  return values;
}

void Unpickler::count_object() {
  if (++objects_ > kMostObjects)
    input_.fail("it holds more than " + std::to_string(kMostObjects) + " objects");
}

void Unpickler::count_items(size_t items) {
  items_ += items;
  if (items_ > kMostItems) input_.fail("it holds more than " + std::to_string(kMostItems) + " items");
}

void Unpickler::push_text(std::string text) {
  count_object();
  texts_.push_back(std::move(text));
  push({Kind::kText, static_cast<int64_t>(texts_.size()) - 1});
}

void Unpickler::push_integer(std::string bytes) {
  if (bytes.size() > sizeof(int64_t)) {
    push_text(std::move(bytes));
    stack_.back().kind = Kind::kBigInteger;
    return;
  }
  const bool negative = !bytes.empty() && (static_cast<uint8_t>(bytes.back()) & 0x80U) != 0;
  uint64_t value = negative ? ~uint64_t{0} : 0;
  for (size_t i = bytes.size(); i-- > 0;) value = value << 8 | static_cast<uint8_t>(bytes[i]);
  push({Kind::kInteger, static_cast<int64_t>(value)});
}

void Unpickler::push_sequence(Values values) {
  count_object();
  count_items(values.size());
  sequences_.push_back(std::move(values));
  push({Kind::kSequence, static_cast<int64_t>(sequences_.size()) - 1});
}

void Unpickler::push_dictionary(Entries entries) {
  count_object();
  count_items(entries.size());
  dictionaries_.push_back(std::move(entries));
  push({Kind::kDictionary, static_cast<int64_t>(dictionaries_.size()) - 1});
}

void Unpickler::set_items(Values items, PickleValue dictionary) {
  if (items.size() % 2 != 0) input_.fail("expected keys with values, found a key without one");
  count_items(items.size());
  Entries& entries = dictionaries_[static_cast<size_t>(dictionary.number)];
  for (size_t i = 0; i < items.size(); i += 2) entries.emplace_back(items[i], items[i + 1]);
}

void Unpickler::append_items(const Values& items, PickleValue sequence) {
  count_items(items.size());
  Values& values = sequences_[static_cast<size_t>(sequence.number)];
  values.insert(values.end(), items.begin(), items.end());
}

void Unpickler::remember(uint64_t key) {
  if (stack_.empty() || stack_.back().kind == Kind::kMark) input_.fail("there is no value to remember");
  if (memo_.size() >= kMostObjects && !memo_.contains(key)) {
    input_.fail("it remembers more than " + std::to_string(kMostObjects) + " values");
  }
  memo_[key] = stack_.back();
}

void Unpickler::recall(uint64_t key) {
  const auto it = memo_.find(key);
  if (it == memo_.end()) input_.fail("value " + std::to_string(key) + " was never remembered");
  push(it->second);
}

}  // namespace octet
