// The keys of an experiment file, their types and defaults.
#pragma once

#include <string>
#include <vector>

#include "settings/model.hpp"
#include "settings/schema.hpp"

namespace filo {

inline constexpr std::size_t most_trials = 1'000'000;

// model, train, evaluate, resources: the order of Variant::sections and of the fields of settings_schema().
const std::vector<std::string>& section_names();
std::size_t section_of(const std::string& dotted_key);  // "model.prompts.filter" -> 0

// The four sections of settings; in an experiment, model.clip is required.
Schema settings_schema(Profile profile);

// The whole file. `own_trials`: false for a file that only includes others. What stands in `folds`, `include` and
// `search` and in the rows and the paper's values of a table is checked by their readers.
Schema experiment_schema(Profile profile, bool own_trials);
Schema exclude_schema();  // a list of conditions

}  // namespace filo
