#include "base/text.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace filo {
namespace {

// Guards the distance against known answers, and its symmetry.
TEST(EditDistance, KnownAnswers) {
  EXPECT_EQ(edit_distance("", ""), 0u);
  EXPECT_EQ(edit_distance("", "abc"), 3u);
  EXPECT_EQ(edit_distance("abc", ""), 3u);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3u);
  EXPECT_EQ(edit_distance("sitting", "kitten"), 3u);
  EXPECT_EQ(edit_distance("flaw", "lawn"), 2u);
  EXPECT_EQ(edit_distance("epochs", "epochs"), 0u);
}

// Guards "did you mean": a slip of the finger finds the key, another word finds nothing.
TEST(Nearest, FindsATypoAndLeavesAnotherWordAlone) {
  const std::vector<std::string> keys = {"image_size", "layers", "profile", "prompts"};
  EXPECT_EQ(nearest("imagesize", keys), "image_size");
  EXPECT_EQ(nearest("promts", keys), "prompts");
  EXPECT_EQ(nearest("bananas", keys), "");
  EXPECT_EQ(nearest("profile", std::vector<std::string>{}), "");
}

// Guards that a suggestion ends a message, and that nothing is said where nothing is near.
TEST(DidYouMean, NamesTheNearestOrNothing) {
  const std::vector<std::string> keys = {"filter", "prompts"};
  EXPECT_EQ(did_you_mean("fliter", keys), "; did you mean filter?");
  EXPECT_EQ(did_you_mean("bananas", keys), "");
}

// Guards paths against names that would leave a folder, hide in it, or be taken for an option.
TEST(PlainName, RefusesWhatIsUnsafeInAPath) {
  for (const char* name : {"demo", "a", "Grid_2.best-one", "0"}) EXPECT_TRUE(is_plain_name(name)) << name;
  for (const char* name : {"", ".", "..", ".hidden", "-option", "a/b", "a b", "\xc3\xa9t\xc3\xa9"})
    EXPECT_FALSE(is_plain_name(name)) << name;
  EXPECT_TRUE(is_plain_name(std::string(100, 'a')));
  EXPECT_FALSE(is_plain_name(std::string(101, 'a')));
}

// Guards JSON and terminals against half a character at the end of a text that was cut.
TEST(CutText, CutsBetweenCharacters) {
  EXPECT_EQ(cut_text("abc", 3), "abc");
  EXPECT_EQ(cut_text("abc", 2), "ab");
  EXPECT_EQ(cut_text("a\xc3\xa9", 2), "a");                            // e acute: two bytes
  EXPECT_EQ(cut_text("\xe2\x82\xac\xe2\x82\xac", 5), "\xe2\x82\xac");  // euro: three bytes
  EXPECT_EQ(cut_text("\xe2\x82\xac", 1), "");
  EXPECT_EQ(cut_text("", 0), "");
}

// Guards numbers in messages and tables: printf's own words, cut where there would be too many.
TEST(Formatted, IsWhatPrintfWrites) {
  EXPECT_EQ(formatted(1.25, "%.1f s"), "1.2 s");
  EXPECT_EQ(formatted(0.00012345, "%.4g"), "0.0001234");
  EXPECT_EQ(formatted(1e300, "%.0f").size(), 63u);
}

}  // namespace
}  // namespace filo
