// The tables of cases in testdata/ (tests/unit/support/transcript.hpp tells their form). What their commands do:
//
//   file NAME          writes the input to NAME, for later blocks
//   head               what goes before the input of later experiments, unless they say `alone`
//   check [base=NAME]  reads the input as experiment.yaml and expands it: how many trials, or what is wrong.
//                      `file=NAME` reads that file in place of the input
//   folds              as check: which data sets each fold trains on and tests on
//   show KEY...        as check: the resolved experiment at these keys
//   trials             as check: each trial's fold and what varies
//   yaml               as check: the resolved experiment as YAML
//   model, cluster, descriptions KEY...   reads the input as such a file, shows these keys or what is wrong
//   json SECTION KEY...                   the same of JSON, as a spec.json holds it; model, train, evaluate, resources
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "../support/scratch_folder.hpp"
#include "../support/transcript.hpp"
#include "settings/cluster.hpp"
#include "settings/descriptions.hpp"
#include "settings/experiment/experiment.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;

std::string shown(const Json& json, const std::vector<std::string>& words) {
  std::string text;
  for (const auto& word : words) {
    if (word == "alone" || word.find('=') != std::string::npos) continue;
    const Json* value = find_dotted(json, word);
    text += word + ": " + (value == nullptr ? "no such key" : value->dump()) + "\n";
  }
  return text.empty() ? "sound\n" : text;
}

class Cases {
 public:
  TranscriptCommands commands() {
    TranscriptCommands all = {
        {"file", [this](const TranscriptBlock& block) { return scratch_.write(block.words.at(0), block.input), ""; }},
        {"head", [this](const TranscriptBlock& block) { return head_ = block.input, ""; }},
        {"check", [this](const TranscriptBlock& block) { return count(load(block)); }},
        {"folds", [this](const TranscriptBlock& block) { return folds(load(block)); }},
        {"show", [this](const TranscriptBlock& block) { return shown(to_json(load(block)), block.words); }},
        {"trials", [this](const TranscriptBlock& block) { return trials(load(block)); }},
        {"yaml", [this](const TranscriptBlock& block) { return to_yaml(load(block)); }},
        {"json", [](const TranscriptBlock& block) { return shown(section(block), block.words); }},
        {"model",
         [this](const TranscriptBlock& block) {
           return shown(to_json(load_model_settings(scratch_.write("model.yaml", block.input))), block.words);
         }},
        {"cluster",
         [this](const TranscriptBlock& block) {
           return shown(to_json(load_cluster_settings(scratch_.write("cluster.yaml", block.input))), block.words);
         }},
        {"descriptions", [this](const TranscriptBlock& block) {
           return shown(to_json(load_descriptions(scratch_.write("d.yaml", block.input))), block.words);
         }}};
    for (auto& [name, command] : all) command = without_folder(std::move(command));
    return all;
  }

 private:
  using Command = TranscriptCommands::mapped_type;

  // Messages name files as the transcript does.
  Command without_folder(Command command) const {
    return [this, command = std::move(command)](const TranscriptBlock& block) {
      std::string text;
      if (const std::string error = error_of([&] { text = command(block); }); !error.empty()) text = "error: " + error;
      const std::string prefix = scratch_.folder.string() + "/";
      for (auto at = text.find(prefix); at != std::string::npos; at = text.find(prefix)) text.erase(at, prefix.size());
      return text;
    };
  }

  // Also expands it and what it includes (what is wrong with a value of an axis is told there), and sees that its
  // resolved form reads back as the same experiment.
  Experiment load(const TranscriptBlock& block) const {
    const std::string file = block.value("file"), base = block.value("base");
    const std::string path = file.empty()
                                 ? scratch_.write("experiment.yaml", (block.has("alone") ? "" : head_) + block.input)
                                 : (scratch_.folder / file).string();
    Experiment experiment = load_experiment(path, {.base = base.empty() ? "" : (scratch_.folder / base).string()});
    expand(experiment);
    for (const auto& part : experiment.included) expand(part);
    if (experiment.included.empty() &&
        to_json(load_experiment(scratch_.write("resolved.yaml", to_yaml(experiment)))) != to_json(experiment))
      throw Error("test", "the resolved YAML reads back as another experiment");
    return experiment;
  }

  static std::string count(const Experiment& experiment) {
    std::size_t variants = 0, runs = 0;
    for_each_variant(experiment, [&](const Variant& variant) {
      ++variants;
      runs += variant.folds.size();
    });
    std::string text = std::to_string(variants) + " variants, " + std::to_string(runs) + " trials\n";
    for (const auto& part : experiment.included) text += "includes " + part.name + ": " + count(part);
    return text;
  }

  static std::string folds(const Experiment& experiment) {
    std::string text;
    for (const auto& fold : experiment.folds)
      text += fold.name + ": trains on " + Json(fold.train).dump() + ", tests on " + fold.test + "\n";
    return text;
  }

  static std::string trials(const Experiment& experiment) {
    std::string text;
    for_each_variant(experiment, [&](const Variant& variant) {
      const Json settings = to_json(variant.settings);
      for (const auto& [key, value] : variant.axis_values)
        if (key != "name" && *find_dotted(settings, key) != value) text += "(the settings have another " + key + ")\n";
      for (const std::size_t fold : variant.folds)
        text += experiment.folds[fold].name + " " + Json(variant.axis_values).dump() + "\n";
    });
    return text;
  }

  static Json section(const TranscriptBlock& block) {
    const Json json = Json::parse(block.input);
    if (block.has("train")) return {{"train", to_json(train_settings_from_json(json, "spec.json"))}};
    if (block.has("evaluate")) return {{"evaluate", to_json(evaluate_settings_from_json(json, "spec.json"))}};
    if (block.has("resources")) return {{"resources", to_json(resource_settings_from_json(json, "spec.json"))}};
    return {{"model", to_json(model_settings_from_json(json, "spec.json"))}};
  }

  ScratchFolder scratch_;
  std::string head_;
};

class SettingsCases : public ::testing::TestWithParam<fs::path> {};

TEST_P(SettingsCases, GiveWhatTheTranscriptSays) {
  Cases cases;
  run_transcript(GetParam(), cases.commands());
}

INSTANTIATE_TEST_SUITE_P(Transcripts, SettingsCases,
                         ::testing::ValuesIn(transcripts_in(FILO_SOURCE_DIR "/tests/unit/settings/testdata")),
                         transcript_name);

}  // namespace
}  // namespace filo
