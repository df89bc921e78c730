#include "settings/experiment/experiment.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

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
  EXPECT_EQ(experiment.folds[0].train, std::vector<std::string>{"generated-parts"});
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

std::vector<std::string> trials_of(const Experiment& experiment) {
  std::vector<std::string> trials;
  for (const auto& variant : expand(experiment))
    for (const std::size_t fold : variant.folds)
      trials.push_back(experiment.folds[fold].name + " " + Json(variant.axis_values).dump());
  return trials;
}

// Guards: keys of `zip` vary together, and multiply with the axes.
TEST(Experiment, ZippedKeysVaryTogether) {
  const Experiment experiment = load(head + R"(
axes: {model.prompts.filter: [true, false]}
zip: {train.batch_size: [4, 8, 16], train.main.epochs: [30, 15, 8]}
)");
  const auto variants = expand(experiment);
  ASSERT_EQ(variants.size(), 6u);
  for (const auto& variant : variants) {
    const int batch = variant.settings.train.batch_size, epochs = variant.settings.train.main_epochs;
    EXPECT_EQ(epochs, batch == 4 ? 30 : batch == 8 ? 15 : 8);
  }
}

// Guards: points beside the grid keep the file's value of what they do not set, and are run with every seed.
TEST(Experiment, ExtraPointsStandBesideTheGrid) {
  const Experiment experiment = load(head + R"(
axes: {model.prompts.filter: [true, false]}
include: [{name: few vectors, model.prompts.vectors: 4}]
seeds: [1, 2]
)");
  const auto variants = expand(experiment);
  ASSERT_EQ(variants.size(), 6u);
  EXPECT_EQ(variants[4].axis_values.at("name"), "few vectors");
  EXPECT_EQ(variants[4].axis_values.at("model.prompts.filter"), true);
  EXPECT_EQ(variants[4].settings.model.prompts.vectors, 4);
  EXPECT_EQ(variants[5].settings.train.seed, 2u);
  EXPECT_EQ(variants[0].axis_values.at("model.prompts.vectors"), 12);
}

// Guards: with points and no axes the settings as written are no trial of their own.
TEST(Experiment, PointsAloneAreTheGrid) {
  const auto variants = expand(load(head + "include: [{name: a, evaluate.shots: 1}, {name: b, evaluate.shots: 2}]\n"));
  ASSERT_EQ(variants.size(), 2u);
  EXPECT_EQ(variants[1].settings.evaluate.shots, 2);
}

// Guards: `exclude` takes away what meets all of a condition, by fold too.
TEST(Experiment, ExcludeLeavesOutWhatMatches) {
  const std::string grid = head + "axes: {model.prompts.filter: [true, false], evaluate.shots: [0, 1]}\n";
  EXPECT_EQ(trials_of(load(grid)).size(), 8u);
  EXPECT_EQ(trials_of(load(grid + "exclude: [{model.prompts.filter: false}]\n")).size(), 4u);
  EXPECT_EQ(trials_of(load(grid + "exclude: [{model.prompts.filter: false, evaluate.shots: 1}]\n")).size(), 6u);
  const auto left = trials_of(load(grid + "exclude: [{fold: mvtec->visa, evaluate.shots: 1}]\n"));
  EXPECT_EQ(left.size(), 6u);
  EXPECT_EQ(left[0], R"(mvtec->visa {"evaluate.shots":0,"model.prompts.filter":true})");
}

// Guards: each data set is tested once, by what was trained on all others.
TEST(Experiment, LeaveOneOutTrainsOnTheOthers) {
  const Experiment experiment =
      load("name: a\ndata: {z: zinc, m: mvtec, v: visa}\nfolds: leave-one-out\nmodel: {clip: w}\n");
  ASSERT_EQ(experiment.folds.size(), 3u);
  EXPECT_EQ(experiment.folds[0].test, "zinc");
  EXPECT_EQ(experiment.folds[0].train, (std::vector<std::string>{"mvtec", "visa"}));
  EXPECT_EQ(experiment.folds[0].name, "m+v->z");
  EXPECT_EQ(to_json(load(to_yaml(experiment))), to_json(experiment));
}

// Guards: what a file says goes over its base, map by map; messages name the file that the value stands in.
TEST(Experiment, ABaseGivesWhatTheFileLeavesOut) {
  const TemporaryFile size("size.yaml",
                           "data: {a: parts, b: boards}\nfolds: [{train: a, test: b}]\n"
                           "model: {clip: w, image_size: 112, prompts: {vectors: 4}}\ntrain:\n  batch_size: 2\n");
  const TemporaryFile large("large.yaml", "data: {a: mvtec, b: visa}\nmodel: {clip: big}\nbase: size.yaml\n");
  const TemporaryFile file("experiment.yaml", "base: size.yaml\nname: t\nmodel: {prompts: {filter: false}}\n");
  const Experiment experiment = load_experiment(file.path());
  EXPECT_EQ(experiment.base.model.prompts.vectors, 4);
  EXPECT_FALSE(experiment.base.model.prompts.filter);
  EXPECT_EQ(experiment.folds[0].test, "boards");
  const Experiment at_size = load_experiment(file.path(), {.base = large.path()});
  EXPECT_EQ(at_size.folds[0].test, "visa");
  EXPECT_EQ(at_size.base.model.clip, "big");
  EXPECT_EQ(at_size.base.model.image_size, 112);

  const TemporaryFile wrong("size.yaml",
                            "data: {a: parts, b: boards}\nfolds: [{train: a, test: b}]\n"
                            "model: {clip: w}\ntrain:\n  batch_size: 0\n");
  EXPECT_THAT(error_of([&] { load_experiment(file.path()); }),
              HasSubstr("size.yaml:5: train.batch_size: found 0, expected a whole number from 1"));
  const TemporaryFile unknown("size.yaml", "axes: {}\n");
  EXPECT_THAT(error_of([&] { load_experiment(file.path()); }),
              HasSubstr("size.yaml:1: axes: found an unknown key of a base"));
  const TemporaryFile cyclic("size.yaml", "base: experiment.yaml\n");
  EXPECT_THAT(error_of([&] { load_experiment(file.path()); }), HasSubstr("expected no cycle"));
}

// Guards: a base's `exclude` holds for every experiment on it, and for some leaves out nothing.
TEST(Experiment, ExcludesOfABaseMayMatchNothing) {
  const TemporaryFile size("size.yaml",
                           "data: {a: parts, b: boards}\nfolds: [{train: a, test: b}]\nmodel: {clip: w}\n"
                           "exclude: [{model.boxes.source: file}, {evaluate.shots: 4}]\n");
  const TemporaryFile plain("plain.yaml", "base: size.yaml\nname: p\naxes: {model.prompts.filter: [true, false]}\n");
  EXPECT_EQ(expand(load_experiment(plain.path())).size(), 2u);
  const TemporaryFile shots("shots.yaml", "base: size.yaml\nname: s\naxes: {evaluate.shots: [0, 4]}\n");
  EXPECT_EQ(expand(load_experiment(shots.path())).size(), 1u);
  const TemporaryFile nothing("nothing.yaml", "base: size.yaml\nname: n\nevaluate: {shots: 4}\n");
  EXPECT_THAT(error_of([&] { expand(load_experiment(nothing.path())); }), HasSubstr("found nothing left of the grid"));
}

// Guards: an experiment of experiments: each once, with its own folds and tables.
TEST(Experiment, IncludesOtherExperiments) {
  const TemporaryFile one("one.yaml", head);
  const TemporaryFile two("two.yaml", "name: two\n" + head.substr(head.find("data:")));
  const TemporaryFile inner("inner.yaml", "name: inner\ninclude: [one.yaml]\n");
  const TemporaryFile all("experiment.yaml", "name: all\ninclude: [one.yaml, two.yaml, inner.yaml]\n");
  const Experiment experiment = load_experiment(all.path());
  EXPECT_FALSE(experiment.has_own_trials());
  ASSERT_EQ(experiment.included.size(), 3u);
  EXPECT_EQ(experiment.included[1].name, "two");
  EXPECT_TRUE(expand(experiment).empty());
  EXPECT_THAT(to_yaml(experiment), HasSubstr("---\n# included: "));

  const TemporaryFile cyclic("two.yaml", "name: two\ninclude: [experiment.yaml]\n");
  EXPECT_THAT(error_of([&] { load_experiment(all.path()); }),
              HasSubstr("two.yaml:2: include[0]: found the text \"experiment.yaml\", which includes this file again"));
  const TemporaryFile same("two.yaml", "name: all\n" + head.substr(head.find("data:")));
  EXPECT_THAT(error_of([&] { load_experiment(all.path()); }), HasSubstr("found \"all\", which another experiment"));
  const TemporaryFile absent("two.yaml", "name: two\ninclude:\n  - missing.yaml\n");
  EXPECT_THAT(error_of([&] { load_experiment(all.path()); }), HasSubstr("two.yaml:3: include[0]"));
}

// Guards: rows by name, rows by condition, rows that only the paper has.
TEST(Experiment, TablesHaveNamedRows) {
  const Experiment experiment = load(head + R"(
include: [{name: ours, model.prompts.filter: true}, {name: without, model.prompts.filter: false}]
tables:
  - title: T
    rows: [WinCLIP, without, {name: ours too, where: {model.prompts.filter: true}, note: a note}]
    paper: {WinCLIP: {mvtec->visa: [78.1, 79.6]}, without: {mvtec->visa: [80, null], visa->mvtec: [81, 82.5]}}
)");
  const Table& table = experiment.tables.at(0);
  ASSERT_EQ(table.named_rows.size(), 3u);
  EXPECT_FALSE(table.named_rows[0].where);
  EXPECT_EQ(table.named_rows[1].where->values.at("name"), "without");
  EXPECT_EQ(table.paper.at("WinCLIP").at("mvtec->visa"), (std::vector<Json>{78.1, 79.6}));
  const Json written = to_json(table);
  EXPECT_EQ(to_json(table_from_json(written)), written);
  EXPECT_EQ(to_json(load(to_yaml(experiment))), to_json(experiment));
}

const std::string search = R"(search:
  max_trials: 50
  seed: 3
  space:
    train.main.learning_rate.mdci: {log_uniform: [1.0e-5, 1.0e-1]}
    train.batch_size: {integer: [1, 16]}
    model.prompts.filter: {choice: [true, false]}
    model.boxes.suppression: {uniform: [0.5, 1]}
)";

// Guards: draws depend on nothing but the seed, so that a resumed search neither drops nor repeats trials, and raising
// max_trials keeps those that ran.
TEST(Search, DrawsAreTheSameEachTime) {
  const auto draw = [](const std::string& yaml) {
    std::vector<Json> draws;
    for (const auto& variant : expand(load(yaml))) draws.push_back(variant.axis_values);
    return draws;
  };
  const auto first = draw(head + search);
  ASSERT_EQ(first.size(), 50u);
  EXPECT_EQ(draw(head + search), first);
  std::string more = search;
  more.replace(more.find("50"), 2, "80");
  auto longer = draw(head + more);
  ASSERT_EQ(longer.size(), 80u);
  longer.resize(50);
  EXPECT_EQ(longer, first);
  std::string other = search;
  other.replace(other.find("seed: 3"), 7, "seed: 4");
  EXPECT_NE(draw(head + other), first);
}

// Guards: each kind of dimension stays in its range and reaches all of it.
TEST(Search, DrawsFillTheirRanges) {
  std::string many = search;
  many.replace(many.find("50"), 2, "400");
  int small_rates = 0, filters = 0;
  std::map<int, int> batches;
  for (const auto& variant : expand(load(head + many))) {
    const double rate = variant.settings.train.learning_rate_mdci;
    EXPECT_GE(rate, 1e-5);
    EXPECT_LE(rate, 1e-1);
    small_rates += rate < 1e-3 ? 1 : 0;
    filters += variant.settings.model.prompts.filter ? 1 : 0;
    ++batches[variant.settings.train.batch_size];
    EXPECT_GE(variant.settings.model.boxes.suppression, 0.5);
  }
  EXPECT_NEAR(small_rates, 200, 50);  // half of the decades
  EXPECT_NEAR(filters, 200, 50);
  EXPECT_EQ(batches.size(), 16u);
  EXPECT_EQ(batches.begin()->first, 1);
}

// Guards: every point of the grid and every seed meets every draw, and variants that only the draw tells apart compete.
TEST(Search, StandsBesideTheGrid) {
  const Experiment experiment = load(head + search + "axes: {evaluate.shots: [0, 1]}\nseeds: [1, 2]\n");
  std::map<std::size_t, int> groups;
  for (const auto& variant : expand(experiment)) ++groups[variant.grid_point];
  ASSERT_EQ(groups.size(), 4u);
  for (const auto& [group, size] : groups) EXPECT_EQ(size, 50);
  const SearchSettings& settings = *experiment.search;
  EXPECT_EQ(to_json(search_from_json(to_json(settings))), to_json(settings));
}

// Guards: what is shipped loads at each of its sizes, and every table of the paper is there.
TEST(ShippedExperiments, LoadAtEachSize) {
  const std::string folder = FILO_SOURCE_DIR "/configs/experiments/";
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().filename().string().starts_with("size-")) continue;
    EXPECT_EQ(error_of([&] {
                const Experiment experiment = load_experiment(entry.path().string());
                expand(experiment);
                for (const auto& part : experiment.included) expand(part);
              }),
              "")
        << entry.path();
  }
  for (const char* size : {"size-demo.yaml", "size-paper.yaml", "size-paper-without-boxes.yaml"}) {
    const Experiment paper = load_experiment(folder + "paper.yaml", {.base = folder + size});
    EXPECT_EQ(paper.included.size(), 9u);
    for (const auto& part : paper.included) {
      EXPECT_FALSE(expand(part).empty()) << part.name << " at " << size;
      EXPECT_FALSE(part.tables.at(0).paper.empty()) << part.name;
    }
  }
}

// Guards: the complete method's zero-shot numbers, which six tables repeat, are the same in each.
TEST(ShippedExperiments, CompleteMethodHasTheSameNumbersEverywhere) {
  const std::vector<std::pair<std::string, std::string>> rows = {
      {"table-1", "FiLo++"}, {"table-3", "+ RTPF"}, {"table-4", "+ Deformable"}, {"table-6", "CoCoOp, class name"},
      {"table-7", "GPT-4o"}, {"figure-3", "12"},    {"figure-4", "all"}};
  const Experiment paper = load_experiment(FILO_SOURCE_DIR "/configs/experiments/paper.yaml");
  for (const auto& [name, row] : rows)
    for (const auto& part : paper.included)
      if (part.name == name) {
        EXPECT_EQ(part.tables[0].paper.at(row).at("MVTec-AD"), (std::vector<Json>{92.1, 92.8})) << name;
        EXPECT_EQ(part.tables[0].paper.at(row).at("VisA"), (std::vector<Json>{84.5, 96.2})) << name;
      }
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
        Case{"name: a\ndata: {x: a, y: b}\nfolds: [{train: x, test: y}]\nmodel: {clip: w}\nexport: [onxx]\n",
             ":5: export[0]: found the text \"onxx\", expected bundle"},
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
        Case{head + "axes: {train.seed: [1]}\nseeds: [1]\n",
             ":6: seeds: found train.seed in axes.train.seed too, expected it in one of them"},
        Case{head + "axes: {train.batch_size: [1]}\nzip: {train.batch_size: [1]}\n",
             ":6: zip.train.batch_size: found train.batch_size in axes.train.batch_size too"},
        Case{head + "zip: {train.batch_size: [1, 2], train.main.epochs: [1]}\n",
             ":5: zip.train.main.epochs: found 1 values, expected 2, as many as train.batch_size"},
        Case{head + "zip: {train.batchsize: [1, 2]}\n", "did you mean train.batch_size?"},
        Case{head + "include: [{train.batchsize: 1}]\n", ":5: include[0].train.batchsize: found an unknown axis"},
        Case{head + "include: [7]\n", ":5: include[0]: found 7, expected a point"},
        Case{head + "include: [{name: a}, {name: a}]\n", ":5: include[1]: found the name \"a\" twice"},
        Case{head + "axes: {train.batch_size: [1, 2]}\ninclude: [{train.batch_size: 2}]\n",
             ":6: include: found a point that the axes have too"},
        Case{head + "include: [{train.seed: 2}]\nseeds: [1]\n", "found both seeds and train.seed in a point"},
        Case{head + "axes: {train.batch_size: [1, 2]}\nexclude: [{train.batch_size: 3}]\n",
             ":6: exclude[0].train.batch_size: found 3, expected one of its values"},
        Case{
            head + "axes: {train.batch_size: [1, 2]}\nexclude: [{train.batchsize: 2}]\n",
            ":6: exclude[0].train.batchsize: found what does not vary here, expected fold, name or the key of an axis; "
            "did you mean train.batch_size?"},
        Case{head + "zip: {train.batch_size: [1, 2], train.main.epochs: [1, 2]}\n"
                    "exclude: [{train.batch_size: 1, train.main.epochs: 2}]\n",
             ":6: exclude[0]: found a condition that no trial meets"},
        Case{head + "axes: {train.batch_size: [1]}\nexclude: [{train.batch_size: 1}]\n",
             "found nothing left of the grid"},
        Case{"name: a\ndata: {x: a, y: b}\nfolds: leave-two-out\nmodel: {clip: w}\n",
             ":3: folds: found the text \"leave-two-out\", expected leave-one-out or a list"},
        Case{"name: a\ndata: {x: a}\nfolds: leave-one-out\nmodel: {clip: w}\n",
             "found leave-one-out with one data set"},
        Case{"name: a\ndata: {x: a, y: b, z: c}\nfolds: [{train: [x, x], test: y}]\nmodel: {clip: w}\n",
             ":3: folds[0].train: found the data set \"a\" twice"},
        Case{"name: a\ndata: {x: a, y: b, z: c}\nfolds: [{train: [x, y], test: y}]\nmodel: {clip: w}\n",
             "found the data set \"b\" in both train and test"},
        Case{"name: a\ninclude: [{train.batch_size: 1}]\n", "data: found nothing, expected a map"},
        Case{head + "name: 'a; rm -rf b'\n", "found this key twice"},
        Case{"name: 'a; rm -rf b'\n", ":1: name: found the text \"a; rm -rf b\", expected a name of letters"},
        Case{"name: '$(reboot)'\n", "expected a name of letters"},
        Case{head + "tables: [{rows: [a]}]\n",
             ":5: tables[0].rows[0]: found \"a\", expected the name of a point in `include:` or of a row in `paper:`"},
        Case{head + "include: [{name: ours}]\ntables: [{rows: [our]}]\n", "did you mean ours?"},
        Case{head + "tables: [{rows: [a], paper: {a: {mvtec->visa: [1]}}}]\n",
             ":5: tables[0].paper.a.mvtec->visa: found the list [1], expected 2 values in per cent"},
        Case{head + "tables: [{rows: [a], paper: {a: {visa: [1, 2]}}}]\n", "found no such column"},
        Case{head + "tables: [{rows: [a], paper: {a: {}, b: {}}}]\n", ":5: tables[0].paper.b: found no such row"},
        Case{head + "tables: [{rows: [{name: a, where: {train.batch_size: 1}}]}]\n", "found what does not vary here"},
        Case{head + "search: {max_trials: 2, space: {train.batch_sise: {integer: [1, 2]}}}\n",
             ":5: search.space.train.batch_sise: found an unknown axis"},
        Case{head + "search: {max_trials: 2, space: {train.batch_size: {log: [1, 2]}}}\n",
             ":5: search.space.train.batch_size: found a map of keys, expected one of uniform, log_uniform"},
        Case{head + "search: {max_trials: 2, space: {train.batch_size: {integer: [2, 1]}}}\n",
             "search.space.train.batch_size.integer: found the list [2,1], expected [low, high]: two whole numbers"},
        Case{head + "search: {max_trials: 2, space: {train.batch_size: {log_uniform: [0, 1]}}}\n", "and above 0"},
        Case{head + "axes: {train.batch_size: [1]}\nsearch: {max_trials: 2, space: {train.batch_size: {integer: [1, "
                    "2]}}}\n",
             ":6: search.space.train.batch_size: found train.batch_size in axes.train.batch_size too"},
        Case{head + "search: {max_trials: 2, method: asha, metric: image_auroc, space: {train.batch_size: {integer: "
                    "[1, 2]}}}\n",
             ":5: search.metric: found image_auroc, which only an evaluation gives"},
        Case{head + "search: {max_trials: 2, method: hyperband, space: {train.batch_size: {integer: [1, 2]}}}\n",
             ":5: search.method: found the text \"hyperband\", expected random or asha"},
        Case{head + "tables: [{rows: model.vv_from}]\n",
             ":5: tables[0].rows: found \"model.vv_from\", expected fold, name or the key of an axis"},
        Case{head + "tables: [{metrics: [auroc]}]\n", ":5: tables[0].metrics[0]: found the text \"auroc\""},
        Case{head + "tables: [{rows: fold}]\n", ":5: tables[0]: found the same rows and columns"},
        Case{head + "model: {}\n", ":5: model: found this key twice"}));

}  // namespace
}  // namespace filo
