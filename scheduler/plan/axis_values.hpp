// What varies from trial to trial, as people read it.
#pragma once

#include <map>
#include <string>

#include "base/json.hpp"

namespace filo {

// For people: what varies, as "filter=true, seed=1"; a named point by its name, "+ filter, seed=1"; "" without axes.
std::string describe_axis_values(const std::map<std::string, Json>& axis_values);
std::string plain_text(const Json& axis_value);
// "model.prompts.filter" -> "filter"; whole where that is the short name of another setting: "evaluate.seed".
std::string short_key(const std::string& dotted_key);

// What only repeats a trial (`seeds:`): "train.seed", "evaluate.seed".
inline constexpr const char* seed_keys[] = {"train.seed", "evaluate.seed"};
bool is_seed(const std::string& dotted_key);

}  // namespace filo
