// The names that enumerators have in files: one table per enumeration gives text, value and schema.
#pragma once

#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "base/error.hpp"
#include "settings/schema.hpp"

namespace filo {

template <typename Enum>
class EnumNames {
 public:
  EnumNames(std::initializer_list<std::pair<Enum, std::string>> table) : table_(table) {}

  const std::string& name(Enum value) const {
    for (const auto& [candidate, name] : table_)
      if (candidate == value) return name;
    throw Error("settings", "an enumerator without a name");
  }

  // Of a name that the schema let through; throws UsageError on another.
  Enum value(const Json& name) const {
    for (const auto& [value, candidate] : table_)
      if (candidate == name) return value;
    throw UsageError("settings", "found " + name.dump() + ", expected a known name");
  }

  std::vector<std::string> names() const {
    std::vector<std::string> all;
    for (const auto& entry : table_) all.push_back(entry.second);
    return all;
  }

  Schema schema(Enum fallback) const { return Schema::choice(name(fallback), names()); }

 private:
  std::vector<std::pair<Enum, std::string>> table_;
};

}  // namespace filo
