#include "scheduler/plan/clip_activation.hpp"

namespace filo {
namespace {

constexpr const char* setting = "clip_activation";

bool ran_on_other(const Json& experiment) {
  if (!experiment.is_object() || !experiment.contains("model")) return false;
  const Json& model = experiment.at("model");
  if (!model.contains("profile") || model.contains(setting)) return false;
  if (experiment.dump().find("\"filo-release\"") == std::string::npos) return false;  // as the profile, or a point's
  const ClipSizes weights = clip_sizes(text_of(model, "clip"));
  return number_of(model, "image_size", 0) != weights.image_size && weights.activation != ClipActivation::gelu;
}

}  // namespace

ClipActivation planned_activation(const ModelSettings& model, const ClipSizes& weights) {
  const ClipActivation activation = clip_activation_of(model, weights.image_size);
  return activation == weights.activation ? ClipActivation::weights : activation;
}

void fill_in_clip_activation(Json& resolved) {
  if (resolved.contains("model") && resolved["model"].contains(setting) && resolved["model"][setting].is_null()) {
    ModelSettings model = model_settings_from_json(resolved["model"], "model");
    resolved["model"][setting] = to_json(clip_activation_of(model, clip_sizes(model.clip).image_size));
  }
  if (resolved.contains("included"))
    for (Json& part : resolved["included"])
      if (part.is_object()) fill_in_clip_activation(part);
}

std::string results_of_other_activation(const Plan& plan) {
  bool other = ran_on_other(plan.experiment);
  if (plan.experiment.contains("included"))
    for (const Json& part : plan.experiment.at("included")) other = other || ran_on_other(part);
  if (!other) return "";
  return "Results of filo-release here were computed with the activation that the weights name; FiLo's published code "
         "runs at this image size with exact GELU. `filo run` on the experiment's file computes them anew "
         "(model.clip_activation: weights keeps them).";
}

}  // namespace filo
