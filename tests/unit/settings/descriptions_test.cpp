#include "settings/descriptions.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "temporary_file.hpp"

namespace filo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::string good = R"(
source: {model: by hand}
states: {normal: ["{}", "flawless {}"], abnormal: ["damaged {}"]}
classes:
  metal_nut: {descriptions: [bent edge, scratched face]}
  pcb1: {prompt_name: pcb, domain: electronics, descriptions: [missing part]}
)";

Descriptions load(const std::string& yaml) { return load_descriptions(TemporaryFile("d.yaml", yaml).path()); }

TEST(Descriptions, AreReadWithTheirDefaults) {
  const Descriptions descriptions = load(good);
  EXPECT_THAT(descriptions.normal_states, ElementsAre("{}", "flawless {}"));
  EXPECT_EQ(descriptions.of("metal_nut").prompt_name, "metal nut");
  EXPECT_EQ(descriptions.of("metal_nut").domain, "industrial");
  EXPECT_EQ(descriptions.of("pcb1").prompt_name, "pcb");
  EXPECT_THAT(descriptions.of("pcb1").descriptions, ElementsAre("missing part"));
}

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

struct Case {
  const char* yaml;
  const char* message;
};
class WrongDescriptions : public ::testing::TestWithParam<Case> {};
TEST_P(WrongDescriptions, AreToldWithTheirLine) {
  EXPECT_THAT(error_of([] { load(GetParam().yaml); }), HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    Cases, WrongDescriptions,
    ::testing::Values(Case{"states: {normal: [good], abnormal: ['bad {}']}\nclasses: {a: {descriptions: [b]}}\n",
                           "d.yaml:1: states.normal[0]: found the text \"good\", expected a state with one {}"},
                      Case{"states: {normal: ['{}'], abnormal: []}\nclasses: {a: {descriptions: [b]}}\n",
                           ":1: states.abnormal: found"},
                      Case{"states: {normal: ['{}'], abnormal: ['x {}']}\nclasses:\n  a: {descriptions: []}\n",
                           ":3: classes.a.descriptions: found the list [], expected a list with at least one item"},
                      Case{"states: {normal: ['{}'], abnormal: ['x {}']}\nclasses:\n  a: {description: [b]}\n",
                           ":3: classes.a.description: found an unknown key"},
                      Case{"states: {normal: ['{}'], abnormal: ['x {}']}\nclasses:\n  a: {descriptions: [5]}\n",
                           ":3: classes.a.descriptions[0]: found 5, expected text"},
                      Case{"states: {normal: ['{}'], abnormal: ['x {}']}\nclasses: {}\n",
                           ":2: classes: found a map of keys, expected a map with"}));

}  // namespace
}  // namespace filo
