// Conditions on what varies: `exclude:` and the `where:` of a table's rows.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "settings/experiment/axes.hpp"
#include "settings/experiment/types.hpp"

namespace filo {

// What "fold", "name" and each key that varies may be.
class VaryingValues {
 public:
  // `resolved`: the file's settings, which points have where they set no other.
  VaryingValues(const std::vector<Fold>& folds, const Grid& grid, const Json& resolved);

  bool varies(const std::string& key) const { return values_.contains(key); }
  bool may_be(const std::string& key, const Json& value) const;   // of a key that varies
  std::vector<std::string> keys() const;                          // for suggestions
  std::vector<std::string> labels(const std::string& key) const;  // its values as the heads of rows and columns

 private:
  std::map<std::string, std::vector<Json>> values_;
};

// {KEY: VALUE, ...}; complains of keys that do not vary and of values that they do not take.
Condition read_condition(const SourceValue& written, const std::string& shown, const VaryingValues& values,
                         Problems& problems);

// The file's own.
std::vector<Condition> read_excludes(const SourceValue& experiment, const VaryingValues& values, Problems& problems);

// Of the bases' lists, those that can hold here: a base serves several experiments, so what does not vary in this one
// is compared with its `resolved` settings at once. Throws UsageError where a list is none of conditions.
std::vector<Condition> read_base_excludes(const std::vector<SourceValue>& lists, const VaryingValues& values,
                                          const AxisKeys& keys, const Json& resolved, Problems& problems);

}  // namespace filo
