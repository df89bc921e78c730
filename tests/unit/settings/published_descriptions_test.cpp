#include "settings/published_descriptions.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "../support/scratch_folder.hpp"

namespace filo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// As FiLo.py has them, in other words.
const std::string source = R"(import os
status_normal = [
    "{}",  # by itself
    'flawless {}',
]
status_abnormal_winclip = ["damaged {}", "{} with "
                           "flaw",]
cls_map = {}
for c_name in ["nut"]:
    cls_map[c_name] = c_name
cls_map["pasta1"] = "pasta"
cls_map['pasta2'] = "pasta"
mvtec_anomaly_detail_gpt = {
    "metal nut": "Bent edge,a \"deep\" scratch",
}
visa_anomaly_detail_gpt = {"pasta1": "uneven shape ,small crack", "pasta2": "wet"}
for name in mvtec_anomaly_detail_gpt.keys():
    mvtec_anomaly_detail_gpt[name] = (
        os.system("touch /tmp/never")
    )
)";

TEST(PublishedDescriptions, AreReadFromTheLiterals) {
  const ScratchFolder scratch;
  const Descriptions read = import_published_descriptions(scratch.write("models/FiLo.py", source));
  EXPECT_THAT(read.normal_states, ElementsAre("{}", "flawless {}"));
  EXPECT_THAT(read.abnormal_states, ElementsAre("damaged {}", "{} with flaw"));
  EXPECT_THAT(read.of("metal_nut").descriptions, ElementsAre("Bent edge", "a \"deep\" scratch"));
  EXPECT_EQ(read.of("metal_nut").prompt_name, "metal nut");
  EXPECT_TRUE(read.of("metal_nut").detector_phrases.empty());
  EXPECT_EQ(load_descriptions(scratch.write("d.yaml", to_yaml(read))).of("pasta1").detector_phrases,
            read.of("pasta1").detector_phrases);
}

// Guards FiLo's numbers for macaroni1, which gets macaroni2's prompts; and what its detector is asked for, letter by
// letter.
TEST(PublishedDescriptions, OfOneSpokenNameAreTheLastOnes) {
  const ScratchFolder scratch;
  const auto path = scratch.write("models/FiLo.py", source);
  const Descriptions read = import_published_descriptions(path);
  EXPECT_EQ(read.of("pasta1").prompt_name, "pasta");
  EXPECT_THAT(read.of("pasta1").descriptions, ElementsAre("wet"));
  EXPECT_THAT(read.of("pasta1").phrases(), ElementsAre("uneven shape ", "small crack"));
  EXPECT_THAT(read.of("pasta2").phrases(), ElementsAre("wet"));

  scratch.write("test.py", "mvtec_anomaly_detail_gpt = {'metal nut': 'bent edge'}\n");
  const Descriptions with_test = import_published_descriptions(path);
  EXPECT_THAT(with_test.of("metal_nut").descriptions, ElementsAre("Bent edge", "a \"deep\" scratch"));
  EXPECT_THAT(with_test.of("metal_nut").phrases(), ElementsAre("bent edge"));
}

TEST(PublishedDescriptions, ErrorsNameFileAndLine) {
  const auto message = [](const std::string& text) {
    const ScratchFolder scratch;
    const auto path = scratch.write("FiLo.py", text);
    return error_of([&] { import_published_descriptions(path); });
  };
  EXPECT_THAT(message("x = 1\n"), HasSubstr("FiLo.py: status_normal: found no such list"));
  EXPECT_THAT(message("\nstatus_normal = make()\n"), HasSubstr("FiLo.py:2: status_normal: found something else"));
  EXPECT_THAT(message("status_normal = ['{}'\n"), HasSubstr("FiLo.py:1: status_normal"));
  EXPECT_THAT(message("status_normal = ['{}', f'{x}']\n"), HasSubstr("FiLo.py:1: status_normal"));
  EXPECT_THAT(
      message("status_normal = ['{}']\nstatus_abnormal_winclip = ['bad {}']\na_anomaly_detail_gpt = {'a': b}\n"),
      HasSubstr("FiLo.py:3: a_anomaly_detail_gpt"));
}

}  // namespace
}  // namespace filo
