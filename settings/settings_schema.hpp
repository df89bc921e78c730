// The schemas of an experiment's sections (settings.cpp): what YAML and the workers' JSON are both checked against.
#pragma once

#include "settings/schema.hpp"
#include "settings/settings.hpp"

namespace filo {

// Defaults and allowed values depend on the profile: see docs/settings.md.
Schema model_schema(Profile profile);
Schema train_schema();
Schema evaluate_schema();
Schema resource_schema();

// The profile a `model:` section asks for; paper where it says nothing usable (model_schema then complains).
Profile profile_of(const SourceValue* model);

// From a value that resolve() returned without problems.
ModelSettings model_settings_of(const Json& resolved);
TrainSettings train_settings_of(const Json& resolved);
EvaluateSettings evaluate_settings_of(const Json& resolved);
ResourceSettings resource_settings_of(const Json& resolved);

}  // namespace filo
