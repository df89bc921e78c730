// What was written in a settings file, value by value with its line, before any schema has looked at it; and the
// message that tells what is wrong with it. YAML and JSON both become a SourceValue (settings/yaml.hpp).
//
// All functions here are thread-safe (no shared state).
#pragma once

#include <string>
#include <vector>

#include "base/json.hpp"

namespace filo {

// A value together with the line it was written on; what YAML and JSON have in common.
struct SourceValue {
  enum class Kind { scalar, list, map };
  struct Field;

  Kind kind = Kind::scalar;
  Json scalar{};                     // null, boolean, number or text; null for lists and maps
  int line = 0;                      // from 1; 0: not known (JSON)
  int file = 0;                      // which of the files that a value was put together from (Problems has their names)
  std::vector<SourceValue> items{};  // list
  std::vector<Field> fields;         // map, in the order written; no {}: a Field is not complete here

  bool is_absent() const { return kind == Kind::scalar && scalar.is_null(); }
  const SourceValue* find(const std::string& name) const;           // field of a map, or nullptr
  const SourceValue* find_dotted(const std::string& dotted) const;  // "model.prompts.filter", or nullptr

  // Puts `value` at the dotted key, making maps on the way; what was there is replaced.
  void set_dotted(const std::string& dotted, SourceValue value);
  void erase(const std::string& name);  // a field of a map, if it is there
};

struct SourceValue::Field {
  std::string name;
  int line = 0;
  SourceValue value;

  SourceValue place() const {
    return {.line = line, .file = value.file, .fields = {}};
  }  // where the name stands, for Problems
};

// `over` on top of `base`: maps field by field, anything else replaced.
SourceValue merged(const SourceValue& base, const SourceValue& over);
SourceValue source_value(const Json& json, int line = 0);
Json to_json(const SourceValue& value);  // unchecked

// What was found in a message: `the text "abc"`, `15`, `a list`, `nothing`.
std::string describe(const SourceValue& value);
// A name in a message: `"abc"`.
std::string in_quotes(const std::string& text);

// The value at "model.prompts.filter", or nullptr.
const Json* find_dotted(const Json& json, const std::string& dotted);

// Throws UsageError "settings: FILE: found ..., expected WHAT: a map of keys" where the value is no map. `what` as in
// "an experiment".
void require_map(const SourceValue& value, const std::string& file, const std::string& what);

// Gathers what is wrong, so that one run tells all of it; throws one UsageError of one line.
class Problems {
 public:
  explicit Problems(std::string file) : files_({std::move(file)}) {}
  explicit Problems(std::vector<std::string> files) : files_(std::move(files)) {}  // by SourceValue::file
  void add(const SourceValue& at, const std::string& key, const std::string& problem);
  bool empty() const { return problems_.empty(); }
  // "settings: FILE:LINE: KEY: PROBLEM (2 more: FILE:LINE KEY, ...)"; returns when there is none.
  void throw_if_any() const;

 private:
  struct Problem {
    std::string where, key, text;
  };
  std::vector<std::string> files_;
  std::vector<Problem> problems_;
};

}  // namespace filo
