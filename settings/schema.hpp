// The schema engine: one declaration of keys, types, ranges and defaults checks YAML and JSON alike, fills in what is
// absent and prints what came of it. It knows no setting by name.
//
// All functions here are thread-safe (no shared state).
#pragma once

#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "base/json.hpp"
#include "settings/source.hpp"

namespace filo {

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
  std::vector<Field> fields;           // record, in the order they are printed; no {}: a Field is not complete here
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
  // Text that may stand in paths and job names (is_plain_name() of base/text.hpp); required.
  static Schema plain_name();

  // The same with a condition on values of the right type: `holds`, or else the message says what was `expected`.
  Schema where(const std::function<bool(const Json&)>& holds, const std::string& expected) &&;
  Schema checked_by(ValueCheck value_check) &&;

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
// The same where nothing else is to be checked: throws UsageError "settings: FILE:LINE: KEY: ..." at once.
Json resolve(const Schema& schema, const SourceValue& value, const std::string& key, const std::string& file);

// All dotted keys of a schema's records ("model.prompts.filter"), records themselves left out.
std::vector<std::string> dotted_keys(const Schema& schema);

// A resolved value as YAML, keys in the schema's order.
std::string to_yaml(const Schema& schema, const Json& resolved);

}  // namespace filo
