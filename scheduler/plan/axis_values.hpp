// What varies from trial to trial, as people read it.
#pragma once

#include <map>
#include <string>

#include "base/json.hpp"

namespace filo {

// For people: what varies, as "filter=true, seed=1"; a named point by its name, "+ filter, seed=1"; "" without axes.
std::string describe_axis_values(const std::map<std::string, Json>& axis_values);
std::string plain_text(const Json& axis_value);
std::string short_key(const std::string& dotted_key);  // "model.prompts.filter" -> "filter"

}  // namespace filo
