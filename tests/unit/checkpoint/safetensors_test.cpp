#include "checkpoint/safetensors.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "base/error.hpp"
#include "base/files.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class Safetensors : public testing::Test {
 protected:
  Safetensors()
      : path_(fs::temp_directory_path() / ("filo-safetensors-" + std::to_string(getpid()) + ".safetensors")) {}
  ~Safetensors() override { fs::remove(path_); }

  // A file with this header and `data_bytes` zero bytes behind it.
  void write_raw(const std::string& header, std::size_t data_bytes) {
    const std::uint64_t size = header.size();
    std::string bytes(sizeof size, '\0');
    std::memcpy(bytes.data(), &size, sizeof size);
    write_file_atomically(path_, bytes + header + std::string(data_bytes, '\0'));
  }

  std::string message_of_opening() {
    try {
      SafetensorsFile::open(path_);
    } catch (const Error& error) {
      return error.what();
    }
    return "opened";
  }

  fs::path path_;
};

std::span<const std::byte> bytes_of(const auto& values) { return std::as_bytes(std::span(values)); }

// Guards: what is written is what is read, scalars and empty tensors included.
TEST_F(Safetensors, RoundTripKeepsShapesBytesAndMetadata) {
  const std::vector<float> matrix = {1, 2, 3, 4, 5, 6};
  const std::vector<std::uint8_t> flags = {1, 0, 1};
  const std::vector<std::int64_t> scalar = {-7};
  write_safetensors(path_,
                    {{"matrix", {"F32", {2, 3}, bytes_of(matrix)}},
                     {"flags", {"BOOL", {3}, bytes_of(flags)}},
                     {"scalar", {"I64", {}, bytes_of(scalar)}},
                     {"empty", {"F16", {0, 4}, {}}}},
                    {{"format", "pt"}});
  const auto file = SafetensorsFile::open(path_);
  EXPECT_EQ(file.names(), (std::vector<std::string>{"empty", "flags", "matrix", "scalar"}));
  EXPECT_EQ(file.metadata().at("format"), "pt");
  const TensorView view = file.at("matrix");
  EXPECT_EQ(view.dtype, "F32");
  EXPECT_EQ(view.shape, (std::vector<std::int64_t>{2, 3}));
  EXPECT_TRUE(std::ranges::equal(view.bytes, bytes_of(matrix)));
  EXPECT_EQ(std::memcmp(file.at("scalar").bytes.data(), scalar.data(), 8), 0);
  EXPECT_TRUE(file.at("empty").bytes.empty());
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(view.bytes.data()) % 4, 0u);
}

// Guards: stages are compared by digest, so equal tensors must give equal files.
TEST_F(Safetensors, EqualTensorsGiveEqualFiles) {
  const std::vector<float> a = {1, 2};
  write_safetensors(path_, {{"b", {"F32", {2}, bytes_of(a)}}, {"a", {"F32", {2}, bytes_of(a)}}}, {{"k", "v"}});
  const std::string first = read_file(path_);
  write_safetensors(path_, {{"a", {"F32", {2}, bytes_of(a)}}, {"b", {"F32", {2}, bytes_of(a)}}}, {{"k", "v"}});
  EXPECT_EQ(first, read_file(path_));
}

// Guards: a misspelt tensor is answered with the file, the name and the one that was meant.
TEST_F(Safetensors, AskingForAMissingTensorNamesTheNearest) {
  const std::vector<float> a = {1};
  write_safetensors(path_, {{"adapter.fc.0.weight", {"F32", {1}, bytes_of(a)}}});
  try {
    SafetensorsFile::open(path_).at("adapter.fc.1.weight");
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::AllOf(HasSubstr(path_.string()), HasSubstr("adapter.fc.1.weight"),
                                             HasSubstr("did you mean adapter.fc.0.weight?")));
  }
}

// Guards: a view whose bytes do not fit its shape is refused before anything is written.
TEST_F(Safetensors, WritingAShapeThatDoesNotFitTheBytesIsRefused) {
  const std::vector<float> a = {1, 2, 3};
  EXPECT_THROW(write_safetensors(path_, {{"a", {"F32", {2}, bytes_of(a)}}}), Error);
  EXPECT_THROW(write_safetensors(path_, {{"a", {"F31", {3}, bytes_of(a)}}}), Error);
  EXPECT_FALSE(fs::exists(path_));
}

struct BadFile {
  const char* name;
  const char* header;
  std::size_t data_bytes;
  const char* expected;  // part of the message
};

class BadSafetensors : public Safetensors, public testing::WithParamInterface<BadFile> {};

// Guards: every size in an untrusted file is checked before it is used.
TEST_P(BadSafetensors, IsRefusedWithAMessage) {
  write_raw(GetParam().header, GetParam().data_bytes);
  EXPECT_THAT(message_of_opening(), testing::AllOf(HasSubstr(path_.string()), HasSubstr(GetParam().expected)));
}

INSTANTIATE_TEST_SUITE_P(
    Files, BadSafetensors,
    testing::Values(
        BadFile{"not_json", "{\"a\":", 0, "not valid JSON"},
        BadFile{"not_an_object", "[1]", 0, R"(the header begins with "[", expected "{")"},
        BadFile{"blank_before", R"( {"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1,
                R"(the header begins with " ", expected "{")"},
        BadFile{"no_utf8_before", "\xff{}", 0, R"(, expected "{")"},
        BadFile{"no_header", "", 0, "the header begins with nothing"},
        BadFile{
            "misaligned",
            R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}})",
            6, "b: misaligned: its data begins at byte 2, expected a multiple of 4 for F32"},
        BadFile{
            "duplicate",
            R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
            1, "twice"},
        BadFile{"dtype", R"({"a":{"dtype":"Q9","shape":[1],"data_offsets":[0,1]}})", 1, "unknown dtype 'Q9'"},
        BadFile{"no_shape", R"({"a":{"dtype":"U8","data_offsets":[0,1]}})", 1, "'shape'"},
        BadFile{"negative", R"({"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}})", 1, "found -1"},
        BadFile{"fraction", R"({"a":{"dtype":"U8","shape":[1.5],"data_offsets":[0,1]}})", 1, "found 1.5"},
        BadFile{"overflow", R"({"a":{"dtype":"F32","shape":[4611686018427387905,4],"data_offsets":[0,4]}})", 4,
                "more than fits"},
        BadFile{"overflow_of_elements", R"({"a":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,0]}})",
                0, "more than fits"},
        BadFile{"beyond_the_end", R"({"a":{"dtype":"U8","shape":[9],"data_offsets":[0,9]}})", 8, "cut short"},
        BadFile{"backwards", R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[1,0]}})", 1, "data_offsets"},
        BadFile{"three_offsets", R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1,2]}})", 2, "[begin, end]"},
        BadFile{"wrong_size", R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", 4, "expected 8 for F32 [2]"},
        BadFile{"gap", R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})", 2, "gap"},
        BadFile{
            "overlap",
            R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
            3, "overlaps"},
        BadFile{"rest", R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 5, "holds 5 bytes"},
        BadFile{"metadata", R"({"__metadata__":{"k":1}})", 0, "not a string"}),
    [](const auto& bad) { return bad.param.name; });

// Guards: files of writers that do not fill up the header are read: what is aligned is aligned within the data.
TEST_F(Safetensors, AHeaderOfAnyLengthIsRead) {
  write_raw(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}} )", 4);
  EXPECT_EQ(message_of_opening(), "opened");
}

// Guards: a header length taken from the file never leads outside it.
TEST_F(Safetensors, HeaderLongerThanTheFileIsRefused) {
  write_file_atomically(path_, std::string("\xff\xff\xff\xff\xff\xff\xff\xff{}", 10));
  EXPECT_THAT(message_of_opening(), HasSubstr("not a safetensors file"));
  write_file_atomically(path_, std::string("\x03\0\0\0\0\0\0\0{}", 10));
  EXPECT_THAT(message_of_opening(), HasSubstr("cut short"));
  write_file_atomically(path_, std::string_view("abc"));
  EXPECT_THAT(message_of_opening(), HasSubstr("too short"));
  write_file_atomically(path_, std::string_view(""));
  EXPECT_THAT(message_of_opening(), HasSubstr("too short"));
}

}  // namespace
}  // namespace filo
