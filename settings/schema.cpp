#include "settings/schema.hpp"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <sstream>

#include "base/error.hpp"
#include "base/text.hpp"

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

// Where a field's name stands.
SourceValue place_of(const SourceValue::Field& field) { return {.line = field.line, .file = field.value.file}; }

Json resolve_record(const Schema& schema, const SourceValue& value, const std::string& key, Problems& problems) {
  std::vector<std::string> names;
  for (const auto& field : schema.fields) names.push_back(field.name);
  bool sound = true;
  for (const auto& field : value.fields)
    if (std::find(names.begin(), names.end(), field.name) == names.end()) {
      sound = false;
      problems.add(place_of(field), joined(key, field.name),
                   "found an unknown key, expected " + one_of(names) + did_you_mean(field.name, names));
    }
  Json resolved = Json::object();
  SourceValue empty;
  empty.kind = SourceValue::Kind::map;
  empty.line = value.line;
  empty.file = value.file;
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

const SourceValue* SourceValue::find(const std::string& name) const {
  for (const auto& field : fields)
    if (field.name == name) return &field.value;
  return nullptr;
}

const SourceValue* SourceValue::find_dotted(const std::string& dotted) const {
  const auto dot = dotted.find('.');
  const SourceValue* value = find(dotted.substr(0, dot));
  return value == nullptr || dot == std::string::npos ? value : value->find_dotted(dotted.substr(dot + 1));
}

void SourceValue::set_dotted(const std::string& dotted, SourceValue value) {
  const auto dot = dotted.find('.');
  const std::string name = dotted.substr(0, dot);
  if (kind != Kind::map) {
    scalar = nullptr;
    items.clear();
    kind = Kind::map;
  }
  auto field =
      std::find_if(fields.begin(), fields.end(), [&](const Field& candidate) { return candidate.name == name; });
  if (field == fields.end()) field = fields.insert(fields.end(), Field{name, value.line, {.file = value.file}});
  if (dot == std::string::npos)
    field->value = std::move(value);
  else
    field->value.set_dotted(dotted.substr(dot + 1), std::move(value));
}

void SourceValue::erase(const std::string& name) {
  std::erase_if(fields, [&](const Field& field) { return field.name == name; });
}

SourceValue merged(const SourceValue& base, const SourceValue& over) {
  if (base.kind != SourceValue::Kind::map || over.kind != SourceValue::Kind::map) return over;
  SourceValue value = base;
  value.line = over.line;
  value.file = over.file;
  for (const auto& field : over.fields) {
    auto below = std::find_if(value.fields.begin(), value.fields.end(),
                              [&](const SourceValue::Field& candidate) { return candidate.name == field.name; });
    if (below == value.fields.end()) {
      value.fields.push_back(field);
    } else {
      below->line = field.line;
      below->value = merged(below->value, field.value);
    }
  }
  return value;
}

SourceValue source_value(const Json& json, int line) {
  SourceValue value;
  value.line = line;
  if (json.is_array()) {
    value.kind = SourceValue::Kind::list;
    for (const auto& item : json) value.items.push_back(source_value(item, line));
  } else if (json.is_object()) {
    value.kind = SourceValue::Kind::map;
    for (const auto& [name, item] : json.items()) value.fields.push_back({name, line, source_value(item, line)});
  } else {
    value.scalar = json;
  }
  return value;
}

Json to_json(const SourceValue& value) {
  if (value.kind == SourceValue::Kind::list) {
    Json list = Json::array();
    for (const auto& item : value.items) list.push_back(to_json(item));
    return list;
  }
  if (value.kind == SourceValue::Kind::map) {
    Json map = Json::object();
    for (const auto& field : value.fields) map[field.name] = to_json(field.value);
    return map;
  }
  return value.scalar;
}

std::string describe(const SourceValue& value) {
  if (value.kind == SourceValue::Kind::map) return "a map of keys";
  if (value.kind == SourceValue::Kind::list) {
    const std::string text = to_json(value).dump(-1, ' ', false, Json::error_handler_t::replace);
    return text.size() <= 60 ? "the list " + text : "a list";
  }
  if (value.scalar.is_null()) return "nothing";
  const std::string text = value.scalar.dump(-1, ' ', false, Json::error_handler_t::replace);
  return value.scalar.is_string() ? "the text " + text : text;
}

void Problems::add(const SourceValue& at, const std::string& key, const std::string& problem) {
  const std::string& file = files_.at(static_cast<std::size_t>(at.file));
  problems_.push_back({file + (at.line > 0 ? ":" + std::to_string(at.line) : ""), key, problem});
}

void Problems::add(int line, const std::string& key, const std::string& problem) {
  add(SourceValue{.line = line}, key, problem);
}

void Problems::throw_if_any() const {
  if (problems_.empty()) return;
  std::string text = problems_[0].text;
  for (std::size_t i = 1; i < problems_.size() && i <= 5; ++i)
    text += (i == 1 ? " (" + std::to_string(problems_.size() - 1) + " more: " : ", ") + problems_[i].where + " " +
            problems_[i].key;
  if (problems_.size() > 6) text += ", ...";
  if (problems_.size() > 1) text += ")";
  throw UsageError("settings: " + problems_[0].where + (problems_[0].key.empty() ? "" : ": " + problems_[0].key), text);
}

Schema Schema::boolean(std::optional<bool> fallback) {
  Schema schema{.type = Type::boolean};
  if (fallback) schema.fallback = *fallback;
  return schema;
}

Schema Schema::integer(std::optional<Json> fallback, double minimum, double maximum) {
  return {.type = Type::integer, .fallback = std::move(fallback), .minimum = minimum, .maximum = maximum};
}

Schema Schema::number(std::optional<double> fallback, double minimum, double maximum, bool above_minimum) {
  Schema schema{.type = Type::number, .minimum = minimum, .maximum = maximum, .above_minimum = above_minimum};
  if (fallback) schema.fallback = *fallback;
  return schema;
}

Schema Schema::text(std::optional<std::string> fallback) {
  Schema schema{.type = Type::text};
  if (fallback) schema.fallback = *fallback;
  return schema;
}

Schema Schema::choice(std::string fallback, std::vector<std::string> choices) {
  return {.type = Type::text, .fallback = Json(std::move(fallback)), .choices = std::move(choices)};
}

Schema Schema::list(Schema item, std::optional<Json> fallback, std::size_t least_items) {
  return {.type = Type::list, .fallback = std::move(fallback), .least_items = least_items, .item = {std::move(item)}};
}

Schema Schema::map(Schema value, std::optional<Json> fallback, std::size_t least_items) {
  return {.type = Type::map, .fallback = std::move(fallback), .least_items = least_items, .item = {std::move(value)}};
}

Schema Schema::record(std::vector<Field> fields) { return {.type = Type::record, .fields = std::move(fields)}; }

Schema Schema::any(std::optional<Json> fallback) { return {.type = Type::any, .fallback = std::move(fallback)}; }

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
