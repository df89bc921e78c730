#include "settings/descriptions.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "../support/scratch_folder.hpp"

namespace filo {
namespace {

using ::testing::HasSubstr;

const std::string good = R"(
source: {model: by hand}
states: {normal: ["{}", "flawless {}"], abnormal: ["damaged {}"]}
classes:
  metal_nut: {descriptions: [bent edge, scratched face]}
  pcb1: {prompt_name: pcb, domain: electronics, descriptions: [missing part]}
)";

Descriptions load(const std::string& yaml) { return load_descriptions(ScratchFolder().write("d.yaml", yaml)); }

// Guards: a new product needs no code; the message is the entry to paste.
TEST(Descriptions, MissingClassShowsTheEntryToAdd) {
  const Descriptions descriptions = load(good);
  const std::string message = error_of([&] { descriptions.of("metal_nuts"); });
  EXPECT_THAT(message, HasSubstr("d.yaml: classes.metal_nuts: found no entry"));
  EXPECT_THAT(message, HasSubstr("`metal_nuts: {domain: industrial, descriptions: ["));
  EXPECT_THAT(message, HasSubstr("did you mean metal_nut?"));
}

TEST(Descriptions, GoThroughJsonUnchanged) {
  const Descriptions descriptions = load(good);
  EXPECT_EQ(to_json(descriptions_from_json(to_json(descriptions), "spec.json")), to_json(descriptions));
  const Descriptions none = generic_descriptions({"metal_nut"});
  EXPECT_EQ(to_json(descriptions_from_json(to_json(none), "spec.json")), to_json(none));
}

}  // namespace
}  // namespace filo
