// Which activation CLIP's towers run with in a plan's stages (model.clip_activation), now and in plans of versions that
// did not have the setting.
#pragma once

#include <string>

#include "scheduler/plan/digests.hpp"
#include "scheduler/plan/plan.hpp"
#include "settings/model.hpp"

namespace filo {

// What stages are told: `weights` where it is the weights' own, so that stages which compute the same are one.
ClipActivation planned_activation(const ModelSettings& model, const ClipSizes& weights);

// Of an experiment as JSON or as its YAML shows it: model.clip_activation, where the file leaves it open, becomes what
// its profile asks for over the weights in model.clip; where those cannot be read, as over weights of 336 pixels.
void fill_in_clip_activation(Json& resolved);

// For people: which of a plan's results this version would compute with another activation, and what to do; "" for
// none. Versions without the setting ran filo-release on what the weights say, where FiLo's published code does not.
std::string results_of_other_activation(const Plan& plan);

}  // namespace filo
