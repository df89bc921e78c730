#include "base/json.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>

#include "base/error.hpp"
#include "base/files.hpp"

namespace filo {
namespace {

// Guards the stage keys: the order in which keys were written does not change the bytes that are hashed.
TEST(CanonicalJson, DoesNotDependOnTheOrderOfKeys) {
  EXPECT_EQ(canonical_json(Json::parse(R"({"b": 1, "a": {"d": [1, 2], "c": null}})")),
            canonical_json(Json::parse(R"({ "a":{"c":null,"d":[1,2]},  "b":1 })")));
  EXPECT_EQ(canonical_json(Json::parse(R"({"b": 1, "a": 2})")), R"({"a":2,"b":1})");
}

// Guards that learning rates keep every bit on their way through spec.json.
TEST(CanonicalJson, NumbersComeBackBitForBit) {
  for (const double number : {1e-3, 1e-4, 0.1, 1.0 / 3, 5e-324, 1.7976931348623157e308, -0.0})
    EXPECT_EQ(Json::parse(canonical_json(Json(number))).get<double>(), number);
}

// Guards names that are not valid UTF-8: an error, not a key over replaced characters.
TEST(CanonicalJson, RefusesTextThatIsNotUtf8) { EXPECT_ANY_THROW(canonical_json(Json("\xff"))); }

// Guards that a broken file's error names the file, and that what is written is read back.
TEST(ReadJson, NamesTheFileThatIsNotJson) {
  std::string pattern = (std::filesystem::temp_directory_path() / "filo-json-XXXXXX").string();
  ASSERT_NE(mkdtemp(pattern.data()), nullptr);
  const std::filesystem::path folder = pattern;
  write_json(folder / "good.json", Json{{"a", 1}});
  EXPECT_EQ(read_json(folder / "good.json"), (Json{{"a", 1}}));
  EXPECT_EQ(read_file(folder / "good.json").back(), '\n');
  write_file_atomically(folder / "cut.json", R"({"a": 1, )");
  try {
    read_json(folder / "cut.json");
    ADD_FAILURE() << "a cut file was read";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("cut.json: not valid JSON at byte"));
  }
  std::filesystem::remove_all(folder);
}

// Guards files that people edited, or that another version wrote: what is not of the expected type is as if absent.
TEST(JsonMembers, OfAnotherTypeCountAsAbsent) {
  const Json object = {{"text", "a"}, {"number", 2.5}, {"null", nullptr}};
  EXPECT_EQ(text_of(object, "text"), "a");
  EXPECT_EQ(text_of(object, "number"), "");
  EXPECT_EQ(text_of(object, "absent", "other"), "other");
  EXPECT_EQ(number_of(object, "number"), 2.5);
  EXPECT_EQ(number_of(object, "text"), 0);
  EXPECT_EQ(number_of(object, "null", 7), 7);
  EXPECT_EQ(text_of(Json::array(), "text"), "");
  EXPECT_EQ(number_of(Json("x"), "text"), 0);
}

}  // namespace
}  // namespace filo
