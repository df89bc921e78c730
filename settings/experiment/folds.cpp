#include "settings/experiment/folds.hpp"

#include <algorithm>
#include <optional>

#include "base/text.hpp"
#include "settings/schema.hpp"

namespace filo {
namespace {

// The data set of a role; "" after a complaint.
std::string dataset_of(const std::string& role, const SourceValue& at, const std::string& key, const Roles& roles,
                       Problems& problems) {
  if (const auto found = roles.datasets.find(role); found != roles.datasets.end()) return found->second;
  problems.add(
      at, key,
      "found the role " + in_quotes(role) + ", expected one that `data:` names" + did_you_mean(role, roles.names));
  return "";
}

// One role or a list of roles; empty after a complaint.
std::vector<std::string> train_roles(const Json& train, const SourceValue& at, const std::string& key,
                                     Problems& problems) {
  if (train.is_string()) return {train};
  std::vector<std::string> roles;
  if (train.is_array())
    for (const auto& role : train)
      if (role.is_string()) roles.push_back(role);
  if (!roles.empty() && roles.size() == train.size()) return roles;
  problems.add(at, key, "found " + train.dump() + ", expected a role of `data:` or a list of such roles");
  return {};
}

// Nothing after a complaint about a role.
std::optional<Fold> read_fold(const Json& entry, const SourceValue& written, const std::string& key, const Roles& roles,
                              Problems& problems) {
  const SourceValue* train_place = written.find("train");
  const SourceValue* test_place = written.find("test");
  const SourceValue& train_at = train_place == nullptr ? written : *train_place;
  Fold fold{.name = entry.at("name"), .train = {}, .test = {}};
  std::string names;
  for (const auto& role : train_roles(entry.at("train"), train_at, key + ".train", problems)) {
    fold.train.push_back(dataset_of(role, train_at, key + ".train", roles, problems));
    names += (names.empty() ? "" : "+") + role;
  }
  const std::string test = entry.at("test");
  fold.test = dataset_of(test, test_place == nullptr ? written : *test_place, key + ".test", roles, problems);
  const bool all_known = std::find(fold.train.begin(), fold.train.end(), "") == fold.train.end();
  if (fold.train.empty() || !all_known || fold.test.empty()) return std::nullopt;
  if (fold.name.empty()) fold.name = names + "->" + test;
  return fold;
}

// Within itself and beside the folds before it.
void check_fold(const Fold& fold, const std::vector<Fold>& before, const SourceValue& at, const std::string& key,
                Problems& problems) {
  const auto trains_on = [&](const std::string& dataset) {
    return std::count(fold.train.begin(), fold.train.end(), dataset);
  };
  if (trains_on(fold.test) > 0)
    problems.add(at, key,
                 "found the data set " + in_quotes(fold.test) +
                     " in both train and test, expected two data sets: what is tested must be unseen");
  const auto twice = std::find_if(fold.train.begin(), fold.train.end(),
                                  [&](const std::string& dataset) { return trains_on(dataset) > 1; });
  if (twice != fold.train.end())
    problems.add(at, key + ".train", "found the data set " + in_quotes(*twice) + " twice, expected it once");
  for (const auto& other : before) {
    if (other.train == fold.train && other.test == fold.test)
      problems.add(at, key, "found this pair of data sets twice, expected each fold once");
    else if (other.name == fold.name)
      problems.add(at, key, "found the name " + in_quotes(fold.name) + " twice, expected names that differ");
  }
}

// A fold as leave-one-out makes it: tested on one role, trained on all others.
Json without(const std::string& test, const std::vector<std::string>& roles) {
  Json train = Json::array();
  for (const auto& role : roles)
    if (role != test) train.push_back(role);
  return {{"train", train}, {"test", test}, {"name", ""}};
}

}  // namespace

Roles read_roles(const SourceValue& experiment) {
  Roles roles;
  for (const auto& field : experiment.find("data")->fields) {
    roles.names.push_back(field.name);
    roles.datasets[field.name] = field.value.scalar.get<std::string>();
  }
  return roles;
}

std::vector<Fold> read_folds(const SourceValue& experiment, const Roles& roles, Problems& problems) {
  const SourceValue& written = *experiment.find("folds");
  std::vector<Fold> folds;
  const auto add = [&](const Json& entry, const SourceValue& at, const std::string& key) {
    std::optional<Fold> fold = read_fold(entry, at, key, roles, problems);
    if (!fold) return;
    check_fold(*fold, folds, at, key, problems);
    folds.push_back(std::move(*fold));
  };
  if (written.scalar == "leave-one-out") {
    if (roles.names.size() < 2)
      problems.add(written, "folds", "found leave-one-out with one data set, expected `data:` to name two or more");
    for (const auto& test : roles.names) add(without(test, roles.names), written, "folds");
    return folds;
  }
  if (written.kind != SourceValue::Kind::list) {
    problems.add(written, "folds",
                 "found " + describe(written) + ", expected leave-one-out or a list of {train, test, name}");
    return folds;
  }
  const Schema fold = Schema::record(
      {{"train", Schema::any(std::nullopt)}, {"test", Schema::text(std::nullopt)}, {"name", Schema::text("")}});
  const Json entries = resolve(Schema::list(fold, std::nullopt, 1), written, "folds", problems);
  problems.throw_if_any();
  for (std::size_t i = 0; i < entries.size(); ++i)
    add(entries[i], written.items[i], "folds[" + std::to_string(i) + "]");
  return folds;
}

Json folds_json(const std::vector<Fold>& folds, const std::map<std::string, std::string>& datasets) {
  std::map<std::string, std::string> role_of;
  for (const auto& [role, dataset] : datasets) role_of[dataset] = role;
  Json json = Json::array();
  for (const auto& fold : folds) {
    Json train = Json::array();
    for (const auto& dataset : fold.train) train.push_back(role_of[dataset]);
    if (train.size() == 1) train = train[0];
    json.push_back({{"name", fold.name}, {"train", train}, {"test", role_of[fold.test]}});
  }
  return json;
}

}  // namespace filo
