#include "settings/schema.hpp"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <sstream>

#include "base/text.hpp"
#include "settings/yaml.hpp"

namespace filo {
namespace {

std::string joined(const std::string& key, const std::string& name) { return key.empty() ? name : key + "." + name; }

// 15, 0.7: without the ".0" that JSON puts after whole doubles.
std::string short_number(double value) {
  if (value == std::floor(value) && std::abs(value) < 1e15) return std::to_string(static_cast<long long>(value));
  return Json(value).dump();
}

std::string one_of(const std::vector<std::string>& choices) {
  std::string text;
  for (std::size_t i = 0; i < choices.size(); ++i)
    text += (i == 0 ? "" : i + 1 == choices.size() ? " or " : ", ") + choices[i];
  return text;
}

std::string range_text(const Schema& schema) {
  const bool has_minimum = std::isfinite(schema.minimum);
  const bool has_maximum = std::isfinite(schema.maximum) && schema.maximum < 1e9;
  if (has_minimum && schema.above_minimum)
    return " above " + short_number(schema.minimum) + (has_maximum ? " and up to " + short_number(schema.maximum) : "");
  if (has_minimum && has_maximum)
    return " from " + short_number(schema.minimum) + " to " + short_number(schema.maximum);
  if (has_minimum) return " of at least " + short_number(schema.minimum);
  return has_maximum ? " of at most " + short_number(schema.maximum) : "";
}

bool is_printable_utf8(const std::string& text) {
  try {
    (void)Json(text).dump();
  } catch (const Json::exception&) {
    return false;
  }
  return text.find('\0') == std::string::npos;
}

bool in_range(const Schema& schema, double value) {
  return value >= schema.minimum && value <= schema.maximum && !(schema.above_minimum && value == schema.minimum);
}

bool has_type(const Schema& schema, const SourceValue& value) {
  const bool scalar = value.kind == SourceValue::Kind::scalar;
  switch (schema.type) {
    case Schema::Type::boolean:
      return scalar && value.scalar.is_boolean();
    case Schema::Type::integer:
      return scalar && value.scalar.is_number_integer();
    case Schema::Type::number:
      return scalar && value.scalar.is_number();
    case Schema::Type::text:
      return scalar && value.scalar.is_string();
    case Schema::Type::list:
      return value.kind == SourceValue::Kind::list;
    case Schema::Type::record:
    case Schema::Type::map:
      return value.kind == SourceValue::Kind::map;
    case Schema::Type::any:
      return true;
  }
  return false;
}

Json resolve_record(const Schema& schema, const SourceValue& value, const std::string& key, Problems& problems) {
  std::vector<std::string> names;
  for (const auto& field : schema.fields) names.push_back(field.name);
  bool sound = true;
  for (const auto& field : value.fields)
    if (std::find(names.begin(), names.end(), field.name) == names.end()) {
      sound = false;
      problems.add(field.place(), joined(key, field.name),
                   "found an unknown key, expected " + one_of(names) + did_you_mean(field.name, names));
    }
  Json resolved = Json::object();
  const SourceValue empty{.kind = SourceValue::Kind::map, .line = value.line, .file = value.file, .fields = {}};
  for (const auto& field : schema.fields) {
    const SourceValue* found = value.find(field.name);
    if (found != nullptr && !found->is_absent()) {
      resolved[field.name] = resolve(field.schema, *found, joined(key, field.name), problems);
    } else if (field.schema.fallback) {
      resolved[field.name] = *field.schema.fallback;
    } else if (field.schema.type == Schema::Type::record) {
      resolved[field.name] = resolve(field.schema, empty, joined(key, field.name), problems);
    } else {
      sound = false;
      problems.add(found == nullptr ? value : *found, joined(key, field.name),
                   "found nothing, expected " + field.schema.expected());
    }
  }
  if (schema.record_check && sound && problems.empty())
    schema.record_check(resolved, [&](const std::string& dotted, const std::string& problem) {
      const SourceValue* place = value.find_dotted(dotted);
      problems.add(place == nullptr ? value : *place, joined(key, dotted), problem);
    });
  return resolved;
}

// Without quotes where that reads back as the same text.
std::string yaml_text(const std::string& text) {
  const bool plain = !text.empty() && text.back() != ' ' && text.front() != ' ' && text.front() != '-' &&
                     std::all_of(text.begin(), text.end(), [](unsigned char c) {
                       return std::isalnum(c) || c == '_' || c == '-' || c == '/' || c == '.' || c == ' ';
                     });
  return plain && parse_yaml(text, "").scalar == Json(text) ? text : Json(text).dump();
}

std::string yaml_inline(const Json& value) {
  if (value.is_string()) return yaml_text(value.get<std::string>());
  if (value.is_number_float()) return value.dump();
  if (value.is_array()) {
    std::string text;
    for (const auto& item : value) text += (text.empty() ? "" : ", ") + yaml_inline(item);
    return "[" + text + "]";
  }
  if (value.is_object()) {
    std::string text;
    for (const auto& [name, item] : value.items())
      text += (text.empty() ? "" : ", ") + yaml_text(name) + ": " + yaml_inline(item);
    return "{" + text + "}";
  }
  return value.dump();
}

void write_yaml(const Schema& schema, const Json& value, int indent, std::ostringstream& out) {
  for (const auto& field : schema.fields) {
    if (!value.contains(field.name)) continue;
    out << std::string(static_cast<std::size_t>(indent), ' ') << field.name << ":";
    const Json& content = value.at(field.name);
    if (field.schema.type == Schema::Type::record) {
      out << "\n";
      write_yaml(field.schema, content, indent + 2, out);
    } else if (content.is_array() && !content.empty() && content[0].is_object()) {
      out << "\n";
      for (const auto& item : content)
        out << std::string(static_cast<std::size_t>(indent) + 2, ' ') << "- " << yaml_inline(item) << "\n";
    } else {
      out << " " << yaml_inline(content) << "\n";
    }
  }
}

void collect_dotted_keys(const Schema& schema, const std::string& key, std::vector<std::string>& keys) {
  for (const auto& field : schema.fields) {
    if (field.schema.type == Schema::Type::record)
      collect_dotted_keys(field.schema, joined(key, field.name), keys);
    else
      keys.push_back(joined(key, field.name));
  }
}

}  // namespace

Schema Schema::boolean(std::optional<bool> fallback) {
  Schema schema{.type = Type::boolean, .fields = {}};
  if (fallback) schema.fallback = *fallback;
  return schema;
}

Schema Schema::integer(std::optional<Json> fallback, double minimum, double maximum) {
  return {.type = Type::integer, .fallback = std::move(fallback), .minimum = minimum, .maximum = maximum, .fields = {}};
}

Schema Schema::number(std::optional<double> fallback, double minimum, double maximum, bool above_minimum) {
  Schema schema{
      .type = Type::number, .minimum = minimum, .maximum = maximum, .above_minimum = above_minimum, .fields = {}};
  if (fallback) schema.fallback = *fallback;
  return schema;
}

Schema Schema::text(std::optional<std::string> fallback) {
  Schema schema{.type = Type::text, .fields = {}};
  if (fallback) schema.fallback = *fallback;
  return schema;
}

Schema Schema::choice(std::string fallback, std::vector<std::string> choices) {
  return {.type = Type::text, .fallback = Json(std::move(fallback)), .choices = std::move(choices), .fields = {}};
}

Schema Schema::list(Schema item, std::optional<Json> fallback, std::size_t least_items) {
  return {.type = Type::list,
          .fallback = std::move(fallback),
          .least_items = least_items,
          .item = {std::move(item)},
          .fields = {}};
}

Schema Schema::map(Schema value, std::optional<Json> fallback, std::size_t least_items) {
  return {.type = Type::map,
          .fallback = std::move(fallback),
          .least_items = least_items,
          .item = {std::move(value)},
          .fields = {}};
}

Schema Schema::record(std::vector<Field> fields) { return {.type = Type::record, .fields = std::move(fields)}; }

Schema Schema::any(std::optional<Json> fallback) {
  return {.type = Type::any, .fallback = std::move(fallback), .fields = {}};
}

Schema Schema::plain_name() {
  return text(std::nullopt)
      .where([](const Json& name) { return is_plain_name(name.get<std::string>()); },
             "a name of letters, digits, '.', '_' and '-' (at most 100, not beginning with '.' or '-')");
}

Schema Schema::where(const std::function<bool(const Json&)>& holds, const std::string& what) && {
  check = [holds, what](const Json& value) { return holds(value) ? std::nullopt : std::optional(what); };
  return std::move(*this);
}

Schema Schema::checked_by(ValueCheck value_check) && {
  check = std::move(value_check);
  return std::move(*this);
}

std::string Schema::expected() const {
  switch (type) {
    case Type::boolean:
      return "true or false";
    case Type::integer:
      return "a whole number" + range_text(*this);
    case Type::number:
      return "a number" + range_text(*this);
    case Type::text:
      return choices.empty() ? "text" : one_of(choices);
    case Type::list:
      return std::string(least_items > 0 ? "a list with at least one item" : "a list");
    case Type::map:
      return std::string(least_items > 0 ? "a map with at least one key" : "a map of keys");
    case Type::record: {
      std::vector<std::string> names;
      for (const auto& field : fields) names.push_back(field.name);
      return "a map with the keys " + one_of(names);
    }
    case Type::any:
      return "a value";
  }
  return "a value";
}

Json resolve(const Schema& schema, const SourceValue& value, const std::string& key, Problems& problems) {
  const auto refuse = [&](const std::string& expected) {
    problems.add(value, key, "found " + describe(value) + ", expected " + expected);
    return Json();
  };
  if (!has_type(schema, value)) return refuse(schema.expected());
  Json resolved;
  switch (schema.type) {
    case Schema::Type::record:
      return resolve_record(schema, value, key, problems);
    case Schema::Type::integer:
    case Schema::Type::number: {
      const auto number = value.scalar.get<double>();
      if (!std::isfinite(number) || !in_range(schema, number)) return refuse(schema.expected());
      resolved = schema.type == Schema::Type::number ? Json(number) : value.scalar;
      break;
    }
    case Schema::Type::text: {
      const auto text = value.scalar.get<std::string>();
      if (!schema.choices.empty() &&
          std::find(schema.choices.begin(), schema.choices.end(), text) == schema.choices.end())
        return refuse(schema.expected() + did_you_mean(text, schema.choices));
      if (!is_printable_utf8(text)) return refuse("UTF-8 text without NUL characters");
      resolved = text;
      break;
    }
    case Schema::Type::list: {
      if (value.items.size() < schema.least_items) return refuse(schema.expected());
      resolved = Json::array();
      for (std::size_t i = 0; i < value.items.size(); ++i)
        resolved.push_back(resolve(schema.item.at(0), value.items[i], key + "[" + std::to_string(i) + "]", problems));
      break;
    }
    case Schema::Type::map: {
      if (value.fields.size() < schema.least_items) return refuse(schema.expected());
      resolved = Json::object();
      for (const auto& field : value.fields)
        resolved[field.name] = resolve(schema.item.at(0), field.value, joined(key, field.name), problems);
      break;
    }
    default:
      resolved = to_json(value);
  }
  if (schema.check && problems.empty())
    if (const auto expected = schema.check(resolved)) return refuse(*expected);
  return resolved;
}

Json resolve(const Schema& schema, const SourceValue& value, const std::string& key, const std::string& file) {
  Problems problems(file);
  Json resolved = resolve(schema, value, key, problems);
  problems.throw_if_any();
  return resolved;
}

std::vector<std::string> dotted_keys(const Schema& schema) {
  std::vector<std::string> keys;
  collect_dotted_keys(schema, "", keys);
  return keys;
}

std::string to_yaml(const Schema& schema, const Json& resolved) {
  std::ostringstream out;
  write_yaml(schema, resolved, 0, out);
  return out.str();
}

}  // namespace filo
