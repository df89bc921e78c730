#include "settings/experiment.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.hpp"
#include "temporary_file.hpp"

namespace filo {
namespace {

using ::testing::HasSubstr;

// Line 5 is the first after it.
const std::string head = R"(name: demo
data: {mvtec: generated-parts, visa: generated-boards}
folds: [{train: mvtec, test: visa}, {train: visa, test: mvtec}]
model: {clip: weights/clip-tiny}
)";

Experiment load(const std::string& yaml) { return load_experiment(TemporaryFile("experiment.yaml", yaml).path()); }

TEST(Experiment, RolesBecomeDataSets) {
  const Experiment experiment = load(head);
  ASSERT_EQ(experiment.folds.size(), 2u);
  EXPECT_EQ(experiment.folds[0].name, "mvtec->visa");
  EXPECT_EQ(experiment.folds[0].train, "generated-parts");
  EXPECT_EQ(experiment.folds[0].test, "generated-boards");
  EXPECT_EQ(experiment.base.model.clip, "weights/clip-tiny");
}

// Guards: axes multiply, the last one runs fastest, seeds are one of them.
TEST(Experiment, AxesExpandByProduct) {
  const Experiment experiment = load(head + R"(
axes: {model.prompts.filter: [true, false], train.main.learning_rate.mdci: [1.0e-3, 1.0e-4]}
seeds: [0, 1, 2]
)");
  const auto variants = expand(experiment);
  ASSERT_EQ(variants.size(), 12u);
  EXPECT_EQ(variants[1].settings.train.seed, 1u);
  EXPECT_EQ(variants[3].settings.train.learning_rate_mdci, 1e-4);
  EXPECT_TRUE(variants[5].settings.model.prompts.filter);
  EXPECT_FALSE(variants[6].settings.model.prompts.filter);
  EXPECT_EQ(variants[6].axis_values.at("model.prompts.filter"), Json(false));
}

// Guards: `filo config show` prints a file that is the same experiment.
TEST(Experiment, ResolvedYamlReadsBackTheSame) {
  const Experiment experiment =
      load(head +
           "axes: {evaluate.shots: [0, 4]}\nseeds: [1, 2]\ntables: [{title: 'Table: \"1\"', rows: evaluate.shots}]\n");
  const Experiment again = load(to_yaml(experiment));
  EXPECT_EQ(to_json(again), to_json(experiment));
}

TEST(Experiment, AxisValueIsCheckedWithItsOwnLine) {
  const Experiment experiment = load(head + "axes:\n  train.batch_size:\n    - 8\n    - 0\n");
  EXPECT_THAT(error_of([&] { expand(experiment); }),
              HasSubstr("experiment.yaml:8: train.batch_size: found 0, expected a whole number from 1"));
}

TEST(Experiment, AMillionTrialsAreTooMany) {
  std::string values = "[1";
  for (int i = 2; i <= 1000; ++i) values += ", " + std::to_string(i);
  values += "]";
  EXPECT_THAT(
      error_of([&] { load(head + "axes: {train.batch_size: " + values + ", train.main.epochs: " + values + "}\n"); }),
      HasSubstr("found more than 1000000 trials"));
}

struct Case {
  std::string yaml;
  const char* message;
};
class WrongExperiment : public ::testing::TestWithParam<Case> {};

TEST_P(WrongExperiment, IsToldWithItsLine) {
  EXPECT_THAT(error_of([] { expand(load(GetParam().yaml)); }), HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    Cases, WrongExperiment,
    ::testing::Values(
        Case{"", "expected an experiment"}, Case{"name: demo\n", "data: found nothing, expected a map"},
        Case{"name: ../up\n", ":1: name: found the text \"../up\", expected a name of letters"},
        Case{"name: a\ndata: {x: 'a b'}\n", ":2: data.x: found the text \"a b\", expected a name of letters"},
        Case{"name: a\ndata: {x: a}\nfolds: [{train: x, test: x}]\nmodel: {clip: w}\n",
             ":3: folds[0]: found the data set \"a\" in both train and test"},
        Case{"name: a\ndata: {x: a, y: a}\nfolds: [{train: x, test: y}]\nmodel: {clip: w}\n",
             ":3: folds[0]: found the data set \"a\" in both train and test"},
        Case{"name: a\ndata: {visa: a, y: b}\nfolds:\n  - train: viso\n    test: y\nmodel: {clip: w}\n",
             ":4: folds[0].train: found the role \"viso\", expected one that `data:` names; did you mean visa?"},
        Case{"name: a\ndata: {x: a, y: b}\nfolds: [{train: x, test: y}, {train: x, test: y}]\nmodel: {clip: w}\n",
             "folds[1]: found this pair of data sets twice"},
        Case{"name: a\ndata: {x: a, y: b}\nfolds: [{train: x, test: y}]\n", "model.clip: found nothing, expected text"},
        Case{head + "trian: {}\n", ":5: trian: found an unknown key"},
        Case{head + "trian: {}\n", "did you mean train?"},
        Case{head + "train: {main: {learning_rate: {prompts: -1}}}\n",
             ":5: train.main.learning_rate.prompts: found -1"},
        Case{
            head + "axes: {model.prompts.filters: [true]}\n",
            ":5: axes.model.prompts.filters: found an unknown axis, expected the dotted key of a setting; did you mean "
            "model.prompts.filter?"},
        Case{head + "axes: {model.prompts.filter: true}\n",
             ":5: axes.model.prompts.filter: found true, expected a list"},
        Case{head + "axes: {model.prompts.filter: []}\n", "expected a list with at least one item"},
        Case{head + "axes: {model.prompts.filter: [true, true]}\n", ":5: axes.model.prompts.filter: found true twice"},
        Case{head + "axes: {train.seed: [1]}\nseeds: [1]\n", ":6: seeds: found both seeds and an axis train.seed"},
        Case{head + "tables: [{rows: model.vv_from}]\n",
             ":5: tables[0].rows: found \"model.vv_from\", expected fold or the key of an axis"},
        Case{head + "tables: [{metrics: [auroc]}]\n", ":5: tables[0].metrics[0]: found the text \"auroc\""},
        Case{head + "tables: [{rows: fold}]\n", ":5: tables[0]: found the same rows and columns"},
        Case{head + "model: {}\n", ":5: model: found this key twice"}));

}  // namespace
}  // namespace filo
