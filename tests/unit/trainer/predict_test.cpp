#include "trainer/predict.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.hpp"

namespace filo {
namespace {

using ::testing::ElementsAre;

// Guards one image's map from another's: a folder a class with the same numbers in each is how data sets look.
TEST(Predict, EachImageHasOutputsOfItsOwn) {
  EXPECT_THAT(output_names({"/d/a/1.png"}), ElementsAre("1"));
  EXPECT_THAT(output_names({"/d/a/1.png", "/d/a/2.jpg"}), ElementsAre("1", "2"));
  EXPECT_THAT(output_names({"/d/a/1.png", "/d/b/1.png"}), ElementsAre("a/1", "b/1"));
  EXPECT_THAT(output_names({"/d/a/1.png", "/d/ab/1.png", "/d/ab/1.jpg"}), ElementsAre("a/1", "ab/1.png", "ab/1.jpg"));
  EXPECT_THAT(output_names({"/d/x.png", "/e/1.png"}), ElementsAre("d/x", "e/1"));
  EXPECT_THAT(output_names({"a/1.png", "b/../a/2.png"}), ElementsAre("1", "2"));
  EXPECT_THROW(output_names({"a/1.png", "b/../a/1.png"}), UsageError);
}

}  // namespace
}  // namespace filo
