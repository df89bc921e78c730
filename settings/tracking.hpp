// `tracking:` of an experiment: which tools its metrics are told to (scheduler/tracking). No part of any stage's key.
#pragma once

#include <string>
#include <vector>

#include "base/json.hpp"

namespace filo {

struct Schema;

struct TrackingSettings {
  bool tensorboard = false;       // event files below the workspace
  std::string mlflow_uri;         // of an MLflow server: "https://HOST[:PORT][/PATH]"; "": none
  std::string mlflow_experiment;  // as MLflow calls it; "": as the experiment is called

  bool any() const { return tensorboard || !mlflow_uri.empty(); }
};

Schema tracking_schema();
TrackingSettings tracking_settings_of(const Json& resolved);  // from a value that resolve() returned without problems

// What the plan of an experiment says: of `plan_experiment`, the resolved experiment that a plan keeps. Plans of before
// there was tracking say nothing, which is none.
TrackingSettings planned_tracking(const Json& plan_experiment);

// The variables of the environment that those who tell MLflow read: its token or user and password, and whom to trust.
const std::vector<std::string>& tracking_variables();

// Whether MLflow's server can be asked there. Credentials are no part of it: they come from the environment.
bool is_mlflow_uri(const std::string& uri);
inline constexpr const char* expected_mlflow_uri =
    "http://HOST[:PORT][/PATH] or https://…, with no user or token in it (MLFLOW_TRACKING_TOKEN in the environment)";

}  // namespace filo
