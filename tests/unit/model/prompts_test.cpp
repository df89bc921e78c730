#include "model/text/prompts.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "base/error.hpp"
#include "tiny_clip.hpp"

namespace filo {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

class Prompts : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new testing::TemporaryFolder;
    write_tokenizer_files(testing::vocabulary_file(), folder_->path(), 77);
    tokenizer_ = new Tokenizer(Tokenizer::load(folder_->path()));
  }
  static void TearDownTestSuite() {
    delete tokenizer_;
    delete folder_;
  }

  PromptSet build(const std::string& class_name = "metal_nut", int context_length = 77) const {
    return build_prompts(settings.prompts, descriptions, class_name, *tokenizer_, context_length);
  }
  std::vector<std::string> texts(bool abnormal) const {
    std::vector<std::string> found;
    for (const auto& prompt : build().prompts) {
      if (prompt.abnormal == abnormal) found.push_back(prompt.text);
    }
    return found;
  }
  static std::string error_of(const std::function<void()>& action) {
    try {
      action();
    } catch (const UsageError& error) {
      return error.what();
    }
    return "";
  }

  ModelSettings settings;
  Descriptions descriptions = testing::two_classes();
  static testing::TemporaryFolder* folder_;
  static Tokenizer* tokenizer_;
};
testing::TemporaryFolder* Prompts::folder_ = nullptr;
Tokenizer* Prompts::tokenizer_ = nullptr;

TEST_F(Prompts, ReadAsTheTemplatesOfThePaper) {
  // Guards the exact wording of both families.
  settings.prompts.positions = PositionSource::none;
  EXPECT_THAT(texts(false), ElementsAre("A industrial photo of metal nut.", "A industrial photo of flawless metal nut.",
                                        "[V1]...[V12] metal nut.", "[V1]...[V12] flawless metal nut."));
  EXPECT_THAT(texts(true),
              ElementsAre("A industrial photo of abnormal metal nut with bent edge.",
                          "A industrial photo of abnormal metal nut with scratched face.",
                          "A industrial photo of damaged metal nut.", "[W1]...[W12] abnormal metal nut with bent edge.",
                          "[W1]...[W12] abnormal metal nut with scratched face.", "[W1]...[W12] damaged metal nut."));
}

TEST_F(Prompts, NamePositionsRowByRow) {
  // Guards nine prompts a description, and that a position asks for its own only.
  settings.prompts.fixed_template = false;
  const PromptSet set = build();
  EXPECT_EQ(set.normal().size(), 2u);
  EXPECT_EQ(set.abnormal({0, 1, 2, 3, 4, 5, 6, 7, 8}).size(), 27u);
  std::vector<std::string> at_bottom;
  for (const int index : set.abnormal({7})) at_bottom.push_back(set.prompts[static_cast<std::size_t>(index)].text);
  EXPECT_THAT(at_bottom, ElementsAre("[W1]...[W12] abnormal metal nut with bent edge at bottom.",
                                     "[W1]...[W12] abnormal metal nut with scratched face at bottom.",
                                     "[W1]...[W12] damaged metal nut at bottom."));
}

TEST_F(Prompts, SwitchesOfTableThree) {
  // Guards generic states and descriptions, each off and both.
  settings.prompts.positions = PositionSource::none;
  settings.prompts.fixed_template = false;
  settings.prompts.vectors = 1;
  settings.prompts.generic_states = false;
  EXPECT_THAT(texts(false), ElementsAre("[V1] normal metal nut."));
  EXPECT_THAT(texts(true),
              ElementsAre("[W1] abnormal metal nut with bent edge.", "[W1] abnormal metal nut with scratched face."));
  settings.prompts.descriptions = "none";
  EXPECT_THAT(texts(true), ElementsAre("[W1] anomalous metal nut."));
  settings.prompts.generic_states = true;
  EXPECT_THAT(texts(true), ElementsAre("[W1] damaged metal nut."));
}

TEST_F(Prompts, WithoutClassNamesNameNoClass) {
  // Guards table VI's class-agnostic prompts.
  settings.prompts.class_names = false;
  for (const auto& prompt : build().prompts)
    EXPECT_THAT(prompt.text, AllOf(Not(HasSubstr("metal")), HasSubstr("object")));
}

TEST_F(Prompts, SayWhatIsWrongInWords) {
  // Guards what people are told of an image: the class by its name, also where prompts do not name it.
  for (const bool named : {true, false}) {
    settings.prompts.class_names = named;
    std::set<std::string> found;
    for (const auto& prompt : build().prompts)
      if (prompt.abnormal) found.insert(prompt.description);
    EXPECT_THAT(found, ElementsAre("bent edge", "damaged metal nut", "scratched face"));
  }
}

TEST_F(Prompts, TooLongIsAnErrorThatNamesThePrompt) {
  // Guards against a silent cut.
  descriptions.classes["metal_nut"].descriptions.push_back("a very long description of a scratch");
  EXPECT_NO_THROW(build("metal_nut", 77));
  const std::string message = error_of([&] { build("metal_nut", 26); });
  EXPECT_THAT(message, AllOf(HasSubstr("a very long description of a scratch"), HasSubstr("expected at most 26")));
}

TEST_F(Prompts, AnUnknownClassShowsTheEntryToAdd) {
  // Guards the message for a class without descriptions.
  EXPECT_THAT(error_of([&] { build("gear"); }), AllOf(HasSubstr("gear"), HasSubstr("descriptions: [")));
}

TEST_F(Prompts, NoTemplateIsAnError) {
  // Guards settings that would leave both sets empty.
  settings.prompts.fixed_template = false;
  settings.prompts.method = PromptMethod::none;
  EXPECT_THAT(error_of([&] { build(); }), HasSubstr("fixed_template"));
}

}  // namespace
}  // namespace filo
