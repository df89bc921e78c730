#include "settings/experiment/experiment.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "../support/scratch_folder.hpp"
#include "base/error.hpp"

namespace filo {
namespace {

using ::testing::HasSubstr;

// Line 5 is the first after it.
const std::string head = R"(name: demo
data: {mvtec: generated-parts, visa: generated-boards}
folds: [{train: mvtec, test: visa}, {train: visa, test: mvtec}]
model: {clip: weights/clip-tiny}
)";

Experiment load(const std::string& yaml) { return load_experiment(ScratchFolder().write("experiment.yaml", yaml)); }

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

TEST(Experiment, AMillionTrialsAreTooMany) {
  std::string values = "[1";
  for (int i = 2; i <= 1000; ++i) values += ", " + std::to_string(i);
  values += "]";
  EXPECT_THAT(
      error_of([&] { load(head + "axes: {train.batch_size: " + values + ", train.main.epochs: " + values + "}\n"); }),
      HasSubstr("found more than 1000000 trials"));
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

// Guards: what a plan keeps of a table is all of it.
TEST(Experiment, TablesGoThroughJsonUnchanged) {
  const Experiment experiment = load(head + R"(
include: [{name: ours, model.prompts.filter: true}, {name: without, model.prompts.filter: false}]
tables:
  - title: T
    rows: [WinCLIP, without, {name: ours too, where: {model.prompts.filter: true}, note: a note}]
    paper: {WinCLIP: {mvtec->visa: [78.1, 79.6]}, without: {mvtec->visa: [80, null], visa->mvtec: [81, 82.5]}}
  - {title: U, rows: fold, columns: ""}
)");
  for (const Table& table : experiment.tables) {
    const Json written = to_json(table);
    EXPECT_EQ(to_json(table_from_json(written)), written);
  }
  EXPECT_FALSE(experiment.tables[0].named_rows[0].where);
  EXPECT_EQ(experiment.tables[0].paper.at("WinCLIP").at("mvtec->visa"), (std::vector<Json>{78.1, 79.6}));
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

}  // namespace
}  // namespace filo
