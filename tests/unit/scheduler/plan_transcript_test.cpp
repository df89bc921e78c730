// From YAML to stages: testdata/plan/*.txt. SCRATCH stands for the test's folder, which has the data sets parts (of
// class bolt) and boards (of class board). The commands:
//
//   dataset NAME digest=DIGEST class=CLASS
//     Adds a data set, or replaces it.
//
//   file PATH
//     Writes the input to SCRATCH/PATH.
//
//   plan [whole] [summary]
//     Plans the input, which follows an experiment with data {a: parts, b: boards}, both folds and a small model
//     (whole: the input is the whole experiment). Prints each stage with its inputs' numbers, and its resources where
//     they are not the first stage's, then each trial (summary: the counts alone).
//
//   spec stage=N at=POINTER
//     What a stage of the latest plan has at a JSON pointer of its spec.
#include <gtest/gtest.h>

#include <map>
#include <sstream>

#include "base/text.hpp"
#include "scheduler/plan/axis_values.hpp"
#include "scheduler/plan/plan.hpp"
#include "tests/unit/support/scratch.hpp"
#include "tests/unit/support/transcript.hpp"

namespace filo {
namespace {

std::string counts_text(const Plan& plan) {
  std::map<StageKind, int> counts;
  for (const auto& stage : plan.stages) ++counts[stage.kind];
  std::string text = std::to_string(plan.trials.size()) + " trials:";
  for (const auto& [kind, count] : counts) text += " " + std::to_string(count) + " " + to_string(kind);
  return text + "\n";
}

std::string resources_text(const ResourceSettings& resources, const ResourceSettings& usual) {
  std::string text;
  if (resources.ranks != usual.ranks) text += " ranks=" + std::to_string(resources.ranks);
  if (resources.gpus != usual.gpus) text += " gpus=" + std::to_string(resources.gpus);
  return text;
}

std::string plan_text(const Plan& plan) {
  std::map<std::string, std::size_t> number;  // of a stage, by key
  std::string text = counts_text(plan);
  for (const auto& stage : plan.stages) {
    number.emplace(stage.key, number.size() + 1);
    text += std::to_string(number[stage.key]) + " " + stage.label;
    std::string inputs;
    for (const auto& [name, key] : stage.spec.at("inputs").items())
      inputs += " " + name + "=" + std::to_string(number.at(key));
    text += (inputs.empty() ? "" : " <-" + inputs) + resources_text(stage.resources, plan.stages[0].resources) + "\n";
  }
  for (const auto& trial : plan.trials) {
    const std::string values = describe_axis_values(trial.axis_values);
    text += (trial.experiment == plan.name ? "" : trial.experiment + ": ") + trial.fold +
            (values.empty() ? "" : " (" + values + ")") + ": train " + std::to_string(number.at(trial.train)) +
            ", evaluate " + std::to_string(number.at(trial.evaluate)) + "\n";
  }
  return text;
}

class PlanTranscript : public ::testing::TestWithParam<std::filesystem::path> {};

TEST_P(PlanTranscript, IsAsWritten) {
  const Scratch scratch;
  scratch.add_all();
  Plan plan;
  const auto in = [&](const std::string& text) { return replaced(text, "SCRATCH", scratch.folder.string()); };
  const auto make = [&](const TranscriptBlock& block) -> std::string {
    try {
      plan = make_plan(block.has("whole") ? load_experiment(scratch.write("experiment.yaml", in(block.input)))
                                          : scratch.experiment(in(block.input)),
                       scratch.workspace());
    } catch (const std::exception& error) {
      return "error: " + replaced(error.what(), scratch.folder.string(), "SCRATCH");
    }
    return replaced(block.has("summary") ? counts_text(plan) : plan_text(plan), scratch.folder.string(), "SCRATCH");
  };
  run_transcript(GetParam(), {{"dataset",
                               [&](const TranscriptBlock& block) {
                                 scratch.add_dataset(block.words.at(0), block.value("digest"), block.value("class"));
                                 return std::string();
                               }},
                              {"file",
                               [&](const TranscriptBlock& block) {
                                 scratch.write(block.words.at(0), in(block.input));
                                 return std::string();
                               }},
                              {"plan", make},
                              {"spec", [&](const TranscriptBlock& block) {
                                 const auto& stage = plan.stages.at(std::stoul(block.value("stage")) - 1);
                                 const Json::json_pointer at(block.value("at"));
                                 const Json spec = stage.spec.json();
                                 return spec.contains(at)
                                            ? replaced(spec.at(at).dump(), scratch.folder.string(), "SCRATCH")
                                            : std::string("nothing");
                               }}});
}

INSTANTIATE_TEST_SUITE_P(Cases, PlanTranscript,
                         ::testing::ValuesIn(transcripts_in(std::filesystem::path(FILO_SOURCE_DIR) /
                                                            "tests/unit/scheduler/testdata/plan")),
                         transcript_name);

}  // namespace
}  // namespace filo
