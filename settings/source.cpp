#include "settings/source.hpp"

#include <algorithm>

#include "base/error.hpp"

namespace filo {

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
  if (field == fields.end())
    field = fields.insert(fields.end(), Field{name, value.line, {.file = value.file, .fields = {}}});
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

std::string in_quotes(const std::string& text) { return Json(text).dump(); }

const Json* find_dotted(const Json& json, const std::string& dotted) {
  const Json* value = &json;
  for (std::size_t from = 0; from <= dotted.size();) {
    const auto dot = std::min(dotted.find('.', from), dotted.size());
    const auto found = value->find(dotted.substr(from, dot - from));
    if (found == value->end()) return nullptr;
    value = &*found;
    from = dot + 1;
  }
  return value;
}

void require_map(const SourceValue& value, const std::string& file, const std::string& what) {
  if (value.kind != SourceValue::Kind::map)
    throw UsageError("settings: " + file, "found " + describe(value) + ", expected " + what + ": a map of keys");
}

void Problems::add(const SourceValue& at, const std::string& key, const std::string& problem) {
  const std::string& file = files_.at(static_cast<std::size_t>(at.file));
  problems_.push_back({file + (at.line > 0 ? ":" + std::to_string(at.line) : ""), key, problem});
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

}  // namespace filo
