// SPDX-License-Identifier: Apache-2.0
// Pickles that were made to do harm, byte for byte: each is refused with one clear error, and quickly.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "octet/base/error.h"
#include "octet/checkpoint/torch_pickle.h"
#include "tests/support/refusal.h"
#include "tests/support/temp_folder.h"
#include "tests/support/zip_text.h"

namespace octet {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

using std::string_literals::operator""s;

const std::string kProto = "\x80\x02";

std::string text(const std::string& value) {
  return "X" + little_endian(value.size(), 4) + value;
}
std::string integer(int64_t value) {
  return "\x8a\x08" + little_endian(static_cast<uint64_t>(value), 8);
}
std::string tuple(const std::vector<int64_t>& values) {
  std::string items = "(";
  for (const int64_t value : values) items += integer(value);
  return items + "t";
}

/// A pickle of {"w": tensor}.
std::string one_tensor(const std::string& tensor) {
  return kProto + "}" + text("w") + tensor + "s.";
}

std::string storage(const std::string& key, int64_t elements, const std::string& type = "FloatStorage") {
  return "(" + text("storage") + "ctorch\n" + type + "\n" + text(key) + text("cpu") + integer(elements) +
         "tQ";
}

struct View {
  int64_t offset = 0;
  std::vector<int64_t> sizes;
  std::vector<int64_t> strides;
};

std::string tensor(const std::string& storage, const View& view) {
  return "ctorch._utils\n_rebuild_tensor_v2\n(" + storage + integer(view.offset) + tuple(view.sizes) +
         tuple(view.strides) + "\x89}tR";
}

std::string archive(const std::string& pickle, const std::string& data = std::string(40, '\0')) {
  return zip_text({{.name = "m/data.pkl", .data = pickle}, {.name = "m/data/0", .data = data}});
}

std::string refusal_of_file(const std::string& content) {
  const TempFolder folder;
  const auto path = folder.write("pytorch_model.bin", content);
  return test::refusal<FormatError>([&] { const TorchPickleFile file(path); });
}

std::string refusal_of_pickle(const std::string& pickle) {
  return refusal_of_file(archive(pickle));
}

std::string refusal_of_view(const View& view) {
  return refusal_of_pickle(one_tensor(tensor(storage("0", 10), view)));
}

TEST(TorchPickleAttack, TheHandMadeFileIsReadWhenNothingIsWrong) {
  EXPECT_EQ(refusal_of_view({.offset = 4, .sizes = {2, 3}, .strides = {3, 1}}), "accepted");
}

TEST(TorchPickleAttack, ACallableOfAnyOtherNameIsRefusedByName) {
  for (const auto& [module, name] :
       std::vector<std::pair<std::string, std::string>>{{"os", "system"},
                                                        {"posix", "system"},
                                                        {"builtins", "eval"},
                                                        {"builtins", "getattr"},
                                                        {"subprocess", "Popen"},
                                                        {"torch", "load"},
                                                        {"torch.hub", "load"},
                                                        {"torch._utils", "_rebuild_tensor_v2.__globals__"},
                                                        {"numpy.core.multiarray", "_reconstruct"},
                                                        {"collections", "OrderedDict.__init__"}}) {
    const std::string full = "it names '" + module + "." + name + "'";
    EXPECT_THAT(refusal_of_pickle(kProto + "c" + module + "\n" + name + "\n(" + text("touch /tmp/x") + "tR."),
                AllOf(HasSubstr("pytorch_model.bin"), HasSubstr(full), HasSubstr("Nothing was run")));
    EXPECT_THAT(refusal_of_pickle("\x80\x04" + text(module) + text(name) + "\x93(" + text("x") + "tR."),
                HasSubstr(full));
  }
}

TEST(TorchPickleAttack, OpcodesThatMakeObjectsAreRefused) {
  for (const char opcode : std::string("oi\x81\x92\x82\x83\x84PpgSIVLF\x8f\x90\x91\x96\x97\x98\x01")) {
    EXPECT_THAT(refusal_of_pickle(kProto + ")" + opcode + "0\n0\n."),
                HasSubstr("is none that a file of tensors needs"))
        << static_cast<int>(opcode);
  }
}

TEST(TorchPickleAttack, KnownNamesCannotBeCalledInWaysThatTorchDoesNot) {
  EXPECT_THAT(refusal_of_pickle(kProto + "ctorch\nFloatStorage\n)R."),
              HasSubstr("it calls 'torch.FloatStorage'"));
  EXPECT_THAT(refusal_of_pickle(kProto + "ctorch._utils\n_rebuild_tensor_v2\n)R."),
              HasSubstr("expected a storage"));
  EXPECT_THAT(refusal_of_pickle(kProto + "ctorch._utils\n_rebuild_parameter\n)R."),
              HasSubstr("made from a tensor"));
  EXPECT_THAT(refusal_of_pickle(kProto + "ccollections\nOrderedDict\n(K\x01tR."),
              HasSubstr("made from pairs"));
  EXPECT_THAT(refusal_of_pickle(kProto + "K\x01)R."),
              HasSubstr("expected something to call, found an integer"));
  EXPECT_THAT(refusal_of_pickle(kProto + text("x") + "}b."),
              HasSubstr("expected a dictionary with attributes"));
  EXPECT_THAT(refusal_of_pickle(kProto + "(" + text("module") + "tQ."),
              HasSubstr("as the name of a storage"));
}

TEST(TorchPickleAttack, NestingWithoutEndIsRefusedWithoutRecursion) {
  EXPECT_THAT(refusal_of_pickle(kProto + std::string(200'000, ']') + "."),
              HasSubstr("expected a dictionary of tensors, found a tuple or list"));
  EXPECT_THAT(refusal_of_pickle(kProto + std::string(3'000'000, ']') + "."),
              HasSubstr("more than 1048576 objects"));
  EXPECT_THAT(refusal_of_pickle(kProto + std::string(3'000'000, '(') + "."),
              HasSubstr("the stack is deeper"));
  std::string nested = kProto + "]";
  for (int i = 0; i < 300'000; ++i) nested += "\x85";
  EXPECT_THAT(refusal_of_pickle(nested + "."),
              HasSubstr("expected a dictionary of tensors, found a tuple or list"));
  // A list that holds itself.
  EXPECT_THAT(refusal_of_pickle(kProto + "]q\x01h\x01"s + "a."),
              HasSubstr("expected a dictionary of tensors"));
}

TEST(TorchPickleAttack, ValuesThatDoubleThemselvesTakeNoMemory) {
  // Each tuple holds the one before twice: 2^n leaves in n values.
  std::string doubling = kProto + "]";
  for (int i = 0; i < 10'000; ++i) doubling += "2\x86";
  EXPECT_THAT(refusal_of_pickle(doubling + "."), HasSubstr("expected a dictionary of tensors"));
  // A long list that is called with again and again.
  std::string calls = kProto + "(" + std::string(5000, 'N') + "tq\x01";
  for (int i = 0; i < 2000; ++i) calls += "ccollections\nOrderedDict\nh\x01R0";
  EXPECT_THAT(refusal_of_pickle(calls + "."), HasSubstr("a call has 5000 arguments"));
}

TEST(TorchPickleAttack, AMemoryOfTooManyValuesIsRefused) {
  std::string memo = kProto + "N";
  for (uint64_t i = 0; i < 1'048'580; ++i) memo += "r" + little_endian(i, 4);
  EXPECT_THAT(refusal_of_pickle(memo + "."), HasSubstr("remembers more than 1048576 values"));
  EXPECT_THAT(refusal_of_pickle(kProto + "j\xff\xff\xff\xff."),
              HasSubstr("value 4294967295 was never remembered"));
  EXPECT_THAT(refusal_of_pickle(kProto + "(q\x01."), HasSubstr("no value to remember"));
}

TEST(TorchPickleAttack, LengthsAreNotBelieved) {
  EXPECT_THAT(refusal_of_pickle(kProto + "X\xff\xff\xff\xff" + "abc."), HasSubstr("found one of 4294967295"));
  EXPECT_THAT(refusal_of_pickle(kProto + "\x8d\xff\xff\xff\xff\xff\xff\xff\xff" + "abc."),
              HasSubstr("found one of 18446744073709551615"));
  EXPECT_THAT(refusal_of_pickle(kProto + "X\x40\x42\x0f\x00"s + "abc."), HasSubstr("is cut short"));
  EXPECT_THAT(refusal_of_pickle(kProto + "\x8b\x00\x00\x00\x7f"s + "abc."), HasSubstr("found one of"));
}

TEST(TorchPickleAttack, AStackThatIsEmptyOrOutOfOrderIsRefused) {
  EXPECT_THAT(refusal_of_pickle(kProto + "."), HasSubstr("the stack is empty"));
  EXPECT_THAT(refusal_of_pickle(kProto + "0."), HasSubstr("the stack is empty"));
  EXPECT_THAT(refusal_of_pickle(kProto + "t."), HasSubstr("expected a mark on the stack"));
  EXPECT_THAT(refusal_of_pickle(kProto + "N("), HasSubstr("it ends too early"));
  EXPECT_THAT(refusal_of_pickle(kProto + "(."), HasSubstr("found a mark"));
  EXPECT_THAT(refusal_of_pickle(kProto + "}(Nu."), HasSubstr("a key without one"));
  EXPECT_THAT(refusal_of_pickle(kProto + "NNa."), HasSubstr("expected a list to append to, found None"));
  EXPECT_THAT(refusal_of_pickle(kProto + "NNNs."), HasSubstr("expected a dictionary to set an item of"));
  EXPECT_THAT(refusal_of_pickle("\x80\x09."s), HasSubstr("protocol 9 is newer"));
}

TEST(TorchPickleAttack, TensorsThatLeaveTheirStorageAreRefused) {
  const std::string leaves = "it leaves its storage of 10 elements";
  EXPECT_THAT(refusal_of_view({.offset = 0, .sizes = {11}, .strides = {1}}), HasSubstr(leaves));
  EXPECT_THAT(refusal_of_view({.offset = 5, .sizes = {2, 3}, .strides = {3, 1}}), HasSubstr(leaves));
  EXPECT_THAT(refusal_of_view({.offset = 10, .sizes = {}, .strides = {}}), HasSubstr(leaves));
  EXPECT_THAT(refusal_of_view({.offset = 0, .sizes = {2, 2}, .strides = {INT64_MAX, 1}}), HasSubstr(leaves));
  EXPECT_THAT(refusal_of_view({.offset = 0, .sizes = {INT64_MAX, INT64_MAX}, .strides = {INT64_MAX, 1}}),
              HasSubstr(leaves));
  EXPECT_THAT(refusal_of_view({.offset = -1, .sizes = {2}, .strides = {1}}), HasSubstr("begins outside"));
  EXPECT_THAT(refusal_of_view({.offset = 11, .sizes = {0}, .strides = {1}}), HasSubstr("begins outside"));
  EXPECT_THAT(refusal_of_view({.offset = 0, .sizes = {-2}, .strides = {1}}), HasSubstr("a size is negative"));
  EXPECT_THAT(refusal_of_view({.offset = 0, .sizes = {0, INT64_MAX}, .strides = {1, 1}}),
              HasSubstr("a size is too large"));
  // More elements than the storage has, by laying rows over each other.
  EXPECT_THAT(refusal_of_view({.offset = 0, .sizes = {1'000'000, 5}, .strides = {0, 1}}),
              HasSubstr("each once"));
  EXPECT_THAT(refusal_of_view({.offset = 0, .sizes = {2, 5}, .strides = {-5, 1}}), HasSubstr("each once"));
  EXPECT_THAT(refusal_of_view({.offset = 0, .sizes = {2, 5}, .strides = {1}}),
              HasSubstr("of different number"));
}

TEST(TorchPickleAttack, StoragesThatTheFileDoesNotHoldAreRefused) {
  const View whole = {.offset = 0, .sizes = {4}, .strides = {1}};
  EXPECT_THAT(refusal_of_pickle(one_tensor(tensor(storage("9", 4), whole))),
              HasSubstr("no member 'm/data/9'"));
  EXPECT_THAT(refusal_of_pickle(one_tensor(tensor(storage("../../etc/passwd", 4), whole))),
              HasSubstr("no member"));
  EXPECT_THAT(refusal_of_pickle(one_tensor(tensor(storage("0", 11), whole))),
              HasSubstr("its storage '0' needs 11 elements of 4 bytes, found 40 bytes"));
  EXPECT_THAT(refusal_of_pickle(one_tensor(tensor(storage("0", -1), whole))),
              HasSubstr("a storage has -1 elements"));
  EXPECT_THAT(refusal_of_pickle(one_tensor(tensor(storage("0", 4, "QInt8Storage"), whole))),
              HasSubstr("it names 'torch.QInt8Storage'"));
}

TEST(TorchPickleAttack, AllTensorsThatAreWrongAreNamedTogether) {
  const std::string bad = tensor(storage("0", 10), {.offset = 0, .sizes = {11}, .strides = {1}});
  EXPECT_THAT(
      refusal_of_pickle(kProto + "}" + text("a") + bad + "s" + text("b") + bad + "s" + text("c") + "Ns."),
      AllOf(HasSubstr("3 faults"), HasSubstr("tensor 'a'"), HasSubstr("tensor 'b'"),
            HasSubstr("'c': expected a tensor, found None")));
  const std::string good = tensor(storage("0", 10), {.offset = 0, .sizes = {10}, .strides = {1}});
  EXPECT_THAT(refusal_of_pickle(kProto + "}" + text("a") + good + "s" + text("a") + good + "s."),
              HasSubstr("tensor 'a' occurs twice"));
}

TEST(TorchPickleAttack, AnArchiveThatIsNoneOfTorchIsRefused) {
  EXPECT_THAT(refusal_of_file("hello, world"), HasSubstr("neither as a zip archive nor as a pickle"));
  EXPECT_THAT(refusal_of_file(""), HasSubstr("neither as a zip archive nor as a pickle"));
  EXPECT_THAT(refusal_of_file(zip_text({{.name = "a/b", .data = "x"}})), HasSubstr("expected one data.pkl"));
  EXPECT_THAT(
      refusal_of_file(zip_text({{.name = "a/data.pkl", .data = "x"}, {.name = "b/data.pkl", .data = "x"}})),
      HasSubstr("expected one data.pkl in the archive, found 2"));
  EXPECT_THAT(refusal_of_file(
                  zip_text({{.name = "m/data.pkl", .data = "."}, {.name = "m/byteorder", .data = "big"}})),
              HasSubstr("byteorder: expected 'little', found 'big'"));
}

TEST(TorchPickleAttack, AnOldFileIsBelievedNoMore) {
  const std::string magic = "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
  const std::string protocol = "\x80\x02M\xe9\x03.";
  const std::string system = "\x80\x02}" + text("little_endian") + "\x88s.";
  const std::string tensors =
      one_tensor(tensor(storage("0", 2), {.offset = 0, .sizes = {2}, .strides = {1}}));
  const std::string keys = "\x80\x02](" + text("0") + "e.";
  const std::string head = magic + protocol + system + tensors + keys;
  EXPECT_EQ(refusal_of_file(head + little_endian(2, 8) + "12345678"), "accepted");
  EXPECT_THAT(refusal_of_file(head + little_endian(2, 8) + "1234567"), HasSubstr("cut short"));
  EXPECT_THAT(refusal_of_file(head + little_endian(3, 8) + std::string(12, 'x')),
              HasSubstr("storage '0': expected 2 elements, found 3"));
  EXPECT_THAT(refusal_of_file(magic + protocol + system + tensors + "\x80\x02]."),
              HasSubstr("is not in the file"));
  EXPECT_THAT(refusal_of_file(magic + protocol + system + tensors + "\x80\x02](" + text("7") + "e."),
              HasSubstr("names one that no tensor uses"));
  EXPECT_THAT(refusal_of_file(magic + "\x80\x02M\xe8\x03."), HasSubstr("expected protocol 1001"));
  EXPECT_THAT(refusal_of_file("\x80\x02M\xe9\x03."), HasSubstr("a pickle without its mark"));
  EXPECT_THAT(refusal_of_file(magic + protocol + "\x80\x02}" + text("little_endian") + "\x89s."),
              HasSubstr("the other order of bytes"));
  EXPECT_THAT(refusal_of_file("\x80\x02" + "cos\nsystem\n("s + text("true") + "tR."),
              HasSubstr("it names 'os.system'"));
}

}  // namespace
}  // namespace octet
