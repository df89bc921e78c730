// What the specs of a plan's stages are made of. Equal parts are one object, so that a grid of 100,000 evaluations has
// one copy of the descriptions, and equal stages are found by comparing pointers. Each data set, folder of weights and
// file is read once, however many trials name it.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "scheduler/plan/digests.hpp"
#include "scheduler/plan/stage_spec.hpp"
#include "settings/experiment/experiment.hpp"
#include "workspace/workspace.hpp"

namespace filo {

using SpecPart = std::shared_ptr<const StageSpec::Part>;

// What the stages' specs take from one `model:` section, and from what `evaluate:` says of the model.
struct ModelParts {
  SpecPart model;        // of evaluations
  SpecPart train_model;  // without what acts at evaluation only
  SpecPart clip;
  std::vector<SpecPart> features;  // of a features stage, but kind and data set
  bool train_boxes = false;        // whether trainings depend on the boxes, and evaluations
  bool evaluate_boxes = false;
};

// Not thread-safe. What it returns by reference is valid until the next begin().
class SpecParts {
 public:
  explicit SpecParts(const Workspace& workspace) : workspace_(workspace) {}

  // The variants that follow are of this experiment: they number their sections anew (Variant::sections).
  void begin(const Experiment& experiment);

  const DatasetInfo& dataset(const std::string& name);

  // Throws UsageError when the section does not fit the weights, or asks for boxes that cannot be had.
  const ModelParts& model(const Variant& variant);
  SpecPart train(const Variant& variant);
  SpecPart evaluate(const Variant& variant);
  SpecPart seed(const Variant& variant);

  // `name`: {...} of one, `name`s: [...] of several.
  // `by_name`: without their digests; they need not be in the workspace.
  SpecPart datasets(const std::string& name, const std::vector<std::string>& datasets, bool by_name = false);
  // Of the classes of these data sets, and no others.
  SpecPart descriptions(const std::vector<std::string>& datasets, const ModelSettings& model);
  SpecPart boxes(const std::string& path);  // throws UsageError when there is no such file
  // Throws UsageError when the folder holds no checkpoint, or one of other settings or weights than the variant's.
  SpecPart checkpoint(const std::string& path, const Variant& variant);
  SpecPart any(const std::string& name, Json value);

 private:
  using ModelKey =
      std::tuple<std::size_t, std::optional<bool>, std::optional<PositionSource>, std::optional<BoxSource>>;
  template <typename Make>
  SpecPart section(const std::string& name, const std::string& number, Make make);
  const ClipInfo& clip(const std::string& folder);
  const Json& descriptions_of(const std::string& source, const DatasetInfo& dataset);
  ModelParts make_model(const ModelSettings& given, const EvaluateSettings& evaluate);
  const std::string& file_digest(const std::string& path);

  const Workspace& workspace_;
  const Experiment* experiment_ = nullptr;
  std::map<std::string, DatasetInfo> datasets_;
  std::map<std::string, ClipInfo> clips_;
  std::map<std::pair<std::string, std::string>, Json> descriptions_;  // by source and data set
  std::unordered_map<std::string, SpecPart> described_;               // by source and data sets
  std::map<std::string, std::string> file_digests_;                   // by path
  std::unordered_map<std::string, SpecPart> parts_;                   // by name and value
  std::unordered_map<std::string, SpecPart> sections_;                // of experiment_, by name and number
  std::map<ModelKey, ModelParts> models_;                             // likewise
};

}  // namespace filo
