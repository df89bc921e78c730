// `data:` and `folds:`: which data sets are trained on and which is tested.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "settings/experiment/types.hpp"

namespace filo {

// `data:`, in the file's order.
struct Roles {
  std::vector<std::string> names;
  std::map<std::string, std::string> datasets;  // role -> data set name
};

// `experiment`: the file, which experiment_schema() let through.
Roles read_roles(const SourceValue& experiment);
std::vector<Fold> read_folds(const SourceValue& experiment, const Roles& roles, Problems& problems);

// As the file says them: roles in place of data sets.
Json folds_json(const std::vector<Fold>& folds, const std::map<std::string, std::string>& datasets);

}  // namespace filo
