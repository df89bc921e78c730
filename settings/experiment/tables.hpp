// `tables:` (experiment.hpp has their JSON).
#pragma once

#include <vector>

#include "settings/experiment/conditions.hpp"
#include "settings/experiment/types.hpp"

namespace filo {

// `resolved`: the file as experiment_schema() resolves it.
std::vector<Table> read_tables(const SourceValue& experiment, const Json& resolved, const VaryingValues& values,
                               Problems& problems);

}  // namespace filo
