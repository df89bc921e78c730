#include "scheduler/plan/plan.hpp"

#include <algorithm>
#include <map>
#include <ranges>
#include <unordered_map>

#include "base/error.hpp"
#include "base/text.hpp"
#include "scheduler/plan/axis_values.hpp"
#include "scheduler/plan/clip_activation.hpp"
#include "scheduler/plan/needed_images.hpp"
#include "scheduler/plan/spec_parts.hpp"
#include "workspace/spec.hpp"

namespace filo {
namespace {

using AxisValues = std::map<std::string, Json>;
constexpr std::size_t most_shared_told = 3;

// From the experiment down to the stages that its trials need.
class Planner {
 public:
  Planner(const Workspace& workspace, int allow_shared) : parts_(workspace), allow_shared_(allow_shared) {}

  Plan make(const Experiment& experiment) {
    plan_.name = experiment.name;
    plan_.experiment = to_json(experiment);
    fill_in_clip_activation(plan_.experiment);
    add_experiment(experiment);
    for (const auto& part : experiment.included) add_experiment(part);
    return std::move(plan_);
  }

 private:
  void add_experiment(const Experiment& experiment) {
    experiment_ = &experiment;
    parts_.begin(experiment);
    plan_.tables.insert(plan_.tables.end(), experiment.tables.begin(), experiment.tables.end());
    if (experiment.search) plan_.searches[experiment.name] = *experiment.search;
    for (const auto& fold : experiment.folds) check_fold(fold, !experiment.base.train.checkpoint.empty());
    for_each_variant(experiment, [&](const Variant& variant) {
      for (const std::size_t fold : variant.folds) add_trial(fold, variant);
    });
  }

  // `given`: a checkpoint takes the training's place, and what it was trained on need not be here.
  void check_fold(const Fold& fold, bool given) {
    std::vector<std::string> names;
    if (!given) names = fold.train;
    names.push_back(fold.test);
    std::map<std::string, std::string> name_of;  // by digest
    for (const auto& name : names) {
      const auto [known, is_new] = name_of.emplace(parts_.dataset(name).digest, name);
      if (!is_new)
        throw UsageError(experiment_->place("folds"),
                         "found the same images under the names " + known->second + " and " + name + " in fold " +
                             fold.name + ", expected data sets that differ: what is tested must be unseen");
    }
    expect_testable(parts_.dataset(fold.test), *experiment_);
    if (given) return;
    for (const auto& train : fold.train) {
      expect_trainable(parts_.dataset(train), *experiment_);
      check_shared_images(fold, train);
    }
  }

  // Data sets that differ may still hold the same photos, in another layout or under other names.
  void check_shared_images(const Fold& fold, const std::string& train) {
    const auto& trained = parts_.dataset(train).paths;
    std::map<std::string, std::string> shared;  // path in the tested data set: path in `train`
    for (const auto& [sha256, path] : parts_.dataset(fold.test).paths)
      if (const auto found = trained.find(sha256); found != trained.end()) shared.emplace(path, found->second);
    if (shared.empty()) return;
    const auto images = static_cast<int>(shared.size());
    if (images > allow_shared_) {
      std::string first;
      for (const auto& [path, trained_path] : shared | std::views::take(most_shared_told))
        first += (first.empty() ? "" : ", ") + path + " is " + trained_path;
      throw UsageError(experiment_->place("folds"),
                       "found images of " + fold.test + " in " + train + " too in fold " + fold.name + ", " +
                           std::to_string(images) + " in all (" + first +
                           (shared.size() > most_shared_told ? ", ..." : "") +
                           "), expected none: what is tested must be unseen; --allow-shared " + std::to_string(images) +
                           " plans it all the same, and the report says so");
    }
    const bool known = std::any_of(plan_.shared_images.begin(), plan_.shared_images.end(), [&](const auto& one) {
      return one.fold == fold.name && one.train == train && one.test == fold.test;
    });
    if (!known) plan_.shared_images.push_back({fold.name, train, fold.test, images});
  }

  void add_trial(std::size_t fold_index, const Variant& variant) {
    const Fold& fold = experiment_->folds[fold_index];
    const ModelParts& model = parts_.model(variant);
    const std::string train = add_train(fold, variant, model);
    if (!experiment_->export_formats.empty()) add_export(fold, variant, model, train);
    const std::string evaluate = add_evaluate(fold, variant, model, train);
    const bool searched = experiment_->search.has_value();
    plan_.trials.push_back(
        {experiment_->name, fold.name, variant.axis_values, train, evaluate,
         searched ? static_cast<std::int64_t>(variant.grid_point * experiment_->folds.size() + fold_index) : -1});
  }

  std::string add_train(const Fold& fold, const Variant& variant, const ModelParts& model) {
    if (!variant.settings.train.checkpoint.empty()) return add_checkpoint(fold, variant, model);
    const SpecPart train = parts_.train(variant);
    const std::string label = "train " + trained_on(fold);
    std::string made_of = label + " " + identity(model.train_model) + identity(train) + identity(model.clip);
    if (model.train_boxes) made_of += variant.settings.model.boxes.file;
    return known_or(made_of, StageKind::train, label, variant.settings.resources, [&] {
      Json inputs = Json::object();
      for (std::size_t i = 0; i < fold.train.size(); ++i) {
        inputs[input_name(spec_input::features, i)] = add_features(fold.train[i], variant, model);
        if (model.train_boxes) inputs[input_name(spec_input::boxes, i)] = add_boxes(fold.train[i], variant);
        if (variant.settings.train.mosaic.rate > 0)
          inputs[input_name(spec_input::mosaics, i)] =
              add_features(fold.train[i], variant, model, variant.settings.train.mosaic.variants);
      }
      return std::vector<SpecPart>{model.train_model,
                                   train,
                                   model.clip,
                                   parts_.descriptions(fold.train, variant.settings.model),
                                   parts_.datasets(spec_member::dataset, fold.train),
                                   parts_.any(spec_member::inputs, inputs)};
    });
  }

  // Reads one file and writes it: one process, whatever training takes.
  std::string add_checkpoint(const Fold& fold, const Variant& variant, const ModelParts& model) {
    const std::string path = replaced(variant.settings.train.checkpoint, "{train}", trained_on(fold));
    return known_or("checkpoint " + path + " " + identity(model.train_model) + identity(model.clip), StageKind::train,
                    "take " + path, one_process(variant.settings.resources), [&] {
                      return std::vector<SpecPart>{model.train_model, model.clip, parts_.checkpoint(path, variant),
                                                   parts_.any(spec_member::inputs, Json::object())};
                    });
  }

  std::string add_evaluate(const Fold& fold, const Variant& variant, const ModelParts& model,
                           const std::string& train) {
    expect_shots(parts_.dataset(fold.test), variant.settings.evaluate.shots, *experiment_);
    Json inputs = {{spec_input::features, add_features(fold.test, variant, model)}, {spec_input::train, train}};
    if (model.evaluate_boxes) inputs[spec_input::boxes] = add_boxes(fold.test, variant);
    return add(
        StageKind::evaluate, "evaluate " + trained_on(fold) + " on " + fold.test,
        {model.model, parts_.evaluate(variant), parts_.seed(variant), model.clip,
         parts_.descriptions({fold.test}, variant.settings.model), parts_.datasets(spec_member::dataset, {fold.test}),
         parts_.datasets(spec_member::train_dataset, fold.train, !variant.settings.train.checkpoint.empty()),
         StageSpec::part(spec_member::inputs, std::move(inputs))},
        variant.settings.resources);
  }

  // Copies files: one process, whatever training takes.
  void add_export(const Fold& fold, const Variant& variant, const ModelParts& model, const std::string& train) {
    add(StageKind::exported, "export " + trained_on(fold),
        {parts_.any(spec_member::formats, experiment_->export_formats), model.clip,
         StageSpec::part(spec_member::inputs, {{spec_input::train, train}})},
        one_process(variant.settings.resources));
  }

  // `mosaics`: of so many mosaics of each class; 0: of the images.
  std::string add_features(const std::string& dataset, const Variant& variant, const ModelParts& model,
                           int mosaics = 0) {
    if (mosaics > 0) expect_mosaics(parts_.dataset(dataset), *experiment_);
    const std::string label =
        (mosaics > 0 ? "features of " + std::to_string(mosaics) + " mosaics " : "features ") + dataset;
    std::string made_of = label + " " + identity(model.clip);
    for (const auto& one : model.features) made_of += identity(one);
    return known_or(made_of, StageKind::features, label, variant.settings.resources, [&] {
      std::vector<SpecPart> parts = model.features;
      parts.push_back(model.clip);
      parts.push_back(parts_.datasets(spec_member::dataset, {dataset}));
      parts.push_back(parts_.any(spec_member::inputs, Json::object()));
      if (mosaics > 0) parts.push_back(parts_.any(spec_member::mosaics, mosaics));
      return parts;
    });
  }

  std::string add_boxes(const std::string& dataset, const Variant& variant) {
    const std::string path = replaced(variant.settings.model.boxes.file, "{data}", dataset);
    return known_or("boxes " + dataset + " " + path, StageKind::boxes, "boxes " + dataset, variant.settings.resources,
                    [&] {
                      return std::vector<SpecPart>{parts_.boxes(path), parts_.datasets(spec_member::dataset, {dataset}),
                                                   parts_.any(spec_member::inputs, Json::object())};
                    });
  }

  // The key of a stage that is known by what it is made of; else `make` gives its spec's parts, inputs last.
  template <typename Make>
  std::string known_or(const std::string& made_of, StageKind kind, const std::string& label,
                       const ResourceSettings& resources, Make make) {
    const auto found = known_.find(made_of);
    if (found != known_.end()) return found->second;
    const std::string key = add(kind, label, make(), resources);
    known_.emplace(made_of, key);
    return key;
  }

  std::string add(StageKind kind, const std::string& label, std::vector<SpecPart> parts,
                  const ResourceSettings& resources) {
    parts.push_back(parts_.any(spec_member::kind, to_string(kind)));
    parts.push_back(parts_.any(spec_member::format, spec_format));
    StageSpec spec(std::move(parts));
    std::string key = spec.key();
    if (!keys_.emplace(key, plan_.stages.size()).second) return key;
    std::vector<std::string> inputs;
    for (const auto& [name, input] : spec.at(spec_member::inputs).items()) inputs.push_back(input);
    plan_.stages.push_back({key, kind, label, std::move(inputs), resources, std::move(spec)});
    return key;
  }

  static std::string identity(const SpecPart& one) {
    return std::to_string(reinterpret_cast<std::uintptr_t>(one.get())) + " ";
  }

  static ResourceSettings one_process(ResourceSettings resources) {
    resources.ranks = 1;
    resources.gpus = 0;
    return resources;
  }

  static std::string trained_on(const Fold& fold) {
    std::string names;
    for (const auto& name : fold.train) names += (names.empty() ? "" : "+") + name;
    return names;
  }

  const Experiment* experiment_ = nullptr;  // the one whose trials are being added
  SpecParts parts_;
  int allow_shared_;
  Plan plan_;
  std::unordered_map<std::string, std::size_t> keys_;   // of plan_.stages
  std::unordered_map<std::string, std::string> known_;  // features, boxes and trainings: what they are made of -> key
};

// Of points that have names and are not one and the same, nothing but the seeds is told: the rest would be long.
void keep_equal(AxisValues& values, const AxisValues& others) {
  const bool named = values.contains("name") || others.contains("name");
  std::erase_if(values, [&](const auto& value) {
    const auto other = others.find(value.first);
    return other == others.end() || other->second != value.second;
  });
  if (named && !values.contains("name")) std::erase_if(values, [](const auto& value) { return !is_seed(value.first); });
}

// What the trials that name a stage have in common goes into its label.
void tell_stages_apart(Plan& plan) {
  std::unordered_map<std::string_view, AxisValues> common;
  for (const auto& trial : plan.trials)
    for (const std::string* key : {&trial.train, &trial.evaluate}) {
      const auto [known, first] = common.try_emplace(*key, trial.axis_values);
      if (!first) keep_equal(known->second, trial.axis_values);
    }
  for (auto& stage : plan.stages) {
    const auto found = common.find(stage.kind == StageKind::exported ? stage.inputs.front() : stage.key);
    if (found == common.end()) continue;
    const std::string values = describe_axis_values(found->second);
    if (!values.empty()) stage.label += " (" + values + ")";
  }
}

}  // namespace

Plan make_plan(const Experiment& experiment, const Workspace& workspace, int allow_shared) {
  Plan plan = Planner(workspace, allow_shared).make(experiment);
  tell_stages_apart(plan);
  return plan;
}

const PlannedStage& Plan::stage(const std::string& key) const {
  for (const auto& candidate : stages)
    if (candidate.key == key) return candidate;
  throw Error("scheduler: plan of " + name, "found no stage " + key);
}

int Plan::max_concurrent() const {
  int least = 0;
  for (const auto& [owner, search] : searches)
    if (search.max_concurrent > 0) least = least == 0 ? search.max_concurrent : std::min(least, search.max_concurrent);
  return least;
}

}  // namespace filo
