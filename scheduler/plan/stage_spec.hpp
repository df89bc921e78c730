// The spec.json of a planned stage.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/json.hpp"

namespace filo {

// A stage's spec.json in parts, which the stages of a grid share: 100,000 evaluations have one copy of the
// descriptions. Copies are cheap; immutable once made.
class StageSpec {
 public:
  struct Part {
    std::string name;  // of the member of spec.json
    Json value;
    std::string key_text;  // canonical JSON of what of it counts for the stage's key
  };
  static std::shared_ptr<const Part> part(const std::string& name, Json value);

  StageSpec() = default;
  explicit StageSpec(std::vector<std::shared_ptr<const Part>> parts);
  bool empty() const { return parts_.empty(); }
  Json json() const;                              // spec.json
  std::string key() const;                        // stage_key(json())
  const Json& at(const std::string& name) const;  // a member; throws Error when it is not there

 private:
  std::vector<std::shared_ptr<const Part>> parts_;  // by name
};

}  // namespace filo
