#include "scheduler/plan/stage_spec.hpp"

#include <algorithm>

#include "base/error.hpp"
#include "base/hash.hpp"
#include "workspace/workspace.hpp"

namespace filo {

std::shared_ptr<const StageSpec::Part> StageSpec::part(const std::string& name, Json value) {
  std::string key_text = canonical_json(key_view({{name, value}}).at(name));
  return std::make_shared<const Part>(Part{name, std::move(value), std::move(key_text)});
}

StageSpec::StageSpec(std::vector<std::shared_ptr<const Part>> parts) : parts_(std::move(parts)) {
  std::sort(parts_.begin(), parts_.end(), [](const auto& a, const auto& b) { return a->name < b->name; });
}

Json StageSpec::json() const {
  Json json = Json::object();
  for (const auto& one : parts_) json[one->name] = one->value;
  return json;
}

std::string StageSpec::key() const {
  Sha256 hash;  // over what canonical_json(key_view(json())) would be, without making it
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    hash.update((i == 0 ? "{\"" : ",\"") + parts_[i]->name + "\":");
    hash.update(parts_[i]->key_text);
  }
  hash.update("}");
  return hash.hex().substr(0, 16);
}

const Json& StageSpec::at(const std::string& name) const {
  for (const auto& one : parts_)
    if (one->name == name) return one->value;
  throw Error("scheduler: spec of a stage", "found no " + name);
}

}  // namespace filo
