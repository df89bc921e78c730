// What torch.save really writes is in tests/parity/import_checkpoint.py; here are hand-written and damaged pickles.
#include "model/unpickler.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.hpp"
#include "base/random.hpp"

namespace filo {
namespace {

using namespace std::string_literals;
using testing::HasSubstr;

std::string text(const std::string& value) { return "\x8c"s + static_cast<char>(value.size()) + value; }

// A [2, 3] tensor at offset 1 of storage "0" of 7 floats.
std::string tensor_program() {
  return "ctorch._utils\n_rebuild_tensor_v2\n(("s + text("storage") + "ctorch\nFloatStorage\n" + text("0") +
         text("cpu") + "K\x07tQ" +
         "K\x01K\x02K\x03\x86K\x03K\x01\x86\x89"
         "ccollections\nOrderedDict\n)RtR";
}

std::string state_dict(const std::string& entries) {
  return "\x80\x02"
         "ccollections\nOrderedDict\n)R("s +
         entries + "u.";
}

std::string message_of(const std::string& pickle) {
  try {
    read_pickled_state_dict(pickle, "filo", "file");
  } catch (const UsageError& error) {
    return error.what();
  }
  return "read";
}

// Guards: the description of a tensor is what the pickle says, at the top or under the section's key.
TEST(Unpickler, ReadsAStateDict) {
  const std::string inner = state_dict(text("adapter.fc.0.weight") + tensor_program() + text("note") + "K\x05");
  const std::string outer = "\x80\x02}"s + text("filo") + inner.substr(2, inner.size() - 3) + "s.";
  for (const std::string& pickle : {inner, outer}) {
    const auto entries = read_pickled_state_dict(pickle, "filo", "file");
    ASSERT_EQ(entries.size(), 2u);
    EXPECT_EQ(entries[0].name, "adapter.fc.0.weight");
    ASSERT_TRUE(entries[0].tensor.has_value());
    EXPECT_EQ(entries[0].tensor->storage_type, "FloatStorage");
    EXPECT_EQ(entries[0].tensor->storage_elements, 7);
    EXPECT_EQ(entries[0].tensor->offset, 1);
    EXPECT_EQ(entries[0].tensor->shape, (std::vector<std::int64_t>{2, 3}));
    EXPECT_EQ(entries[0].tensor->strides, (std::vector<std::int64_t>{3, 1}));
    EXPECT_FALSE(entries[1].tensor.has_value());
  }
}

// Guards: no name but a state dict's is accepted, in either way of naming, whatever would be done with it.
TEST(Unpickler, RefusesEveryOtherName) {
  EXPECT_THAT(message_of("\x80\x02"
                         "cos\nsystem\n("s +
                         text("true") + "tR."),
              HasSubstr("os.system"));
  EXPECT_THAT(message_of("\x80\x04"s + text("builtins") + text("eval") + "\x93."), HasSubstr("builtins.eval"));
  EXPECT_THAT(message_of("\x80\x02"
                         "ctorch\nload\n."s),
              HasSubstr("torch.load"));
  EXPECT_THAT(message_of("\x80\x02"
                         "ctorch.storage\n_load_from_bytes\n."s),
              HasSubstr("_load_from_bytes"));
}

// Guards: programs that are no state dict end with a message.
TEST(Unpickler, RefusesWhatIsNotAStateDict) {
  EXPECT_THAT(message_of(""), HasSubstr("cut short"));
  EXPECT_THAT(message_of("."), HasSubstr("stack is empty"));
  EXPECT_THAT(message_of("K\x01."), HasSubstr("dictionary of tensors"));
  EXPECT_THAT(message_of("}K\x01K\x01s."), HasSubstr("not a string"));
  EXPECT_THAT(message_of("}(K\x01u."), HasSubstr("no value"));
  EXPECT_THAT(message_of("u"), HasSubstr("no mark"));
  EXPECT_THAT(message_of("h\x09."), HasSubstr("memo"));
  EXPECT_THAT(message_of("}" + text("a") + "K\x01s" + text("a") + "K\x01s."), HasSubstr("twice"));
  EXPECT_THAT(message_of("X\xff\xff\xff\xff"
                         "a"),
              HasSubstr("cut short"));
  EXPECT_THAT(message_of("\x8a\x09"
                         "123456789."),
              HasSubstr("64 bits"));
  EXPECT_THAT(message_of("i"), HasSubstr("opcode 105"));
}

// Guards: a dictionary that holds itself, and deep nesting, neither hang nor overflow the stack.
TEST(Unpickler, SurvivesCirclesAndDepth) {
  const std::string circle = "}q\x01" + text("a") + "h\x01s.";
  EXPECT_EQ(message_of(circle), "read");
  std::string deep = ")";
  for (int i = 0; i < 200000; ++i) deep += "\x85";
  EXPECT_THAT(message_of(deep + "."), HasSubstr("dictionary of tensors"));
}

// Guards: any damage is either harmless or a UsageError, never anything else.
TEST(Unpickler, DamagedPicklesAreReadOrRefused) {
  const std::string good = state_dict(text("a") + tensor_program() + text("b") + tensor_program());
  ASSERT_EQ(message_of(good), "read");
  Random random(5);
  for (int round = 0; round < 20000; ++round) {
    std::string bad = good;
    for (std::uint64_t i = 0; i <= random.below(4); ++i)
      bad[random.below(bad.size())] = static_cast<char>(random.below(256));
    if (random.below(4) == 0) bad.resize(random.below(bad.size()));
    message_of(bad);
  }
}

}  // namespace
}  // namespace filo
