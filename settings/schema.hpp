// The schema engine: one declaration of keys, types, ranges and defaults checks YAML and JSON alike, fills in what is
// absent and prints what came of it. It knows no setting by name (settings.cpp and experiment.cpp declare those).
//
// All functions here are thread-safe (no shared state).
#pragma once

#include <filesystem>
#include <functional>
#include <limits>
#include <optional>
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
  std::vector<Field> fields{};       // map, in the order written

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
};

// YAML 1.2 core types; anchors and aliases allowed. Throws UsageError "settings: FILE:LINE: ..." where it is not YAML,
// where a key stands twice, and where aliases expand to more than a million values.
SourceValue parse_yaml(const std::string& text, const std::string& file);
// Throws UsageError also when the file cannot be read. `file` becomes SourceValue::file of all that is in it.
SourceValue read_yaml(const std::filesystem::path& path, int file = 0);
// `over` on top of `base`: maps field by field, anything else replaced.
SourceValue merged(const SourceValue& base, const SourceValue& over);
SourceValue source_value(const Json& json, int line = 0);
Json to_json(const SourceValue& value);  // unchecked

// What was found in a message: `the text "abc"`, `15`, `a list`, `nothing`.
std::string describe(const SourceValue& value);

// Gathers what is wrong, so that one run tells all of it; throws one UsageError of one line.
class Problems {
 public:
  explicit Problems(std::string file) : files_({std::move(file)}) {}
  explicit Problems(std::vector<std::string> files) : files_(std::move(files)) {}  // by SourceValue::file
  void add(const SourceValue& at, const std::string& key, const std::string& problem);
  void add(int line, const std::string& key, const std::string& problem);  // in the first file
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

struct Schema {
  enum class Type { boolean, integer, number, text, list, record, map, any };
  struct Field;
  // Says what was expected when a value that has the right type is still wrong, else nothing.
  using ValueCheck = std::function<std::optional<std::string>(const Json&)>;
  // For conditions between the fields of a record: called with the resolved record; `complain(field, problem)`.
  using Complain = std::function<void(const std::string& dotted_field, const std::string& problem)>;
  using RecordCheck = std::function<void(const Json& resolved, const Complain& complain)>;

  Type type = Type::any;
  // Value when the key is absent; unset: the key is required (a record's fields may still have defaults).
  std::optional<Json> fallback{};
  double minimum = -std::numeric_limits<double>::infinity();
  double maximum = std::numeric_limits<double>::infinity();
  bool above_minimum = false;          // the minimum itself is refused
  std::vector<std::string> choices{};  // text
  std::size_t least_items = 0;         // list, map
  std::vector<Schema> item{};          // one element: of every item of a list, every value of a map
  std::vector<Field> fields{};         // record, in the order they are printed
  ValueCheck check{};
  RecordCheck record_check{};

  static Schema boolean(std::optional<bool> fallback);
  static Schema integer(std::optional<Json> fallback, double minimum, double maximum = 1e9);
  static Schema number(std::optional<double> fallback, double minimum, double maximum, bool above_minimum = false);
  static Schema text(std::optional<std::string> fallback);
  static Schema choice(std::string fallback, std::vector<std::string> choices);
  static Schema list(Schema item, std::optional<Json> fallback, std::size_t least_items = 0);
  static Schema map(Schema value, std::optional<Json> fallback, std::size_t least_items = 0);
  static Schema record(std::vector<Field> fields);
  static Schema any(std::optional<Json> fallback);

  // What a value must be, for messages: "a whole number of at least 1".
  std::string expected() const;
};

struct Schema::Field {
  std::string name;
  Schema schema;
};

// The resolved value: every field present, numbers of `number` fields as doubles. `key` is put before the names of
// fields ("" at the top). What is wrong goes to `problems`; the value is then of no use.
Json resolve(const Schema& schema, const SourceValue& value, const std::string& key, Problems& problems);

// All dotted keys of a schema's records ("model.prompts.filter"), records themselves left out.
std::vector<std::string> dotted_keys(const Schema& schema);

// A resolved value as YAML, keys in the schema's order.
std::string to_yaml(const Schema& schema, const Json& resolved);

}  // namespace filo
