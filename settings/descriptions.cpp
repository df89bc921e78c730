#include "settings/descriptions.hpp"

#include <algorithm>

#include "base/error.hpp"
#include "base/installed.hpp"
#include "base/text.hpp"
#include "settings/schema.hpp"
#include "settings/yaml.hpp"

namespace filo {
namespace {

Schema phrase() {
  return Schema::text(std::nullopt)
      .where([](const Json& text) { return text.get<std::string>().find_first_not_of(" \t\n") != std::string::npos; },
             "words");
}

Schema state() {
  const auto has_one_hole = [](const Json& text) {
    const auto words = text.get<std::string>();
    const auto hole = words.find("{}");
    return hole != std::string::npos && words.find("{}", hole + 1) == std::string::npos;
  };
  return Schema::text(std::nullopt)
      .where(has_one_hole, "a state with one {} where the class's name goes, as in \"damaged {}\"");
}

// `least`: descriptions a class needs; a file's class has some, a resolved spec may carry none (descriptions: none).
Schema descriptions_schema(std::size_t least) {
  Schema prompt_name = phrase();
  prompt_name.fallback = "";
  Schema domain = phrase();
  domain.fallback = "industrial";
  return Schema::record({
      {"source", Schema::any(Json::object())},
      {"states", Schema::record({{"normal", Schema::list(state(), std::nullopt, 1)},
                                 {"abnormal", Schema::list(state(), std::nullopt, 1)}})},
      {"classes", Schema::map(Schema::record({{"prompt_name", prompt_name},
                                              {"domain", domain},
                                              {"descriptions", Schema::list(phrase(), std::nullopt, least)},
                                              {"detector_phrases", Schema::list(phrase(), Json::array())}}),
                              std::nullopt, 1)},
  });
}

Descriptions checked(const SourceValue& value, const std::string& file, std::size_t least) {
  const Json resolved = resolve(descriptions_schema(least), value, "", file);
  Descriptions descriptions;
  descriptions.normal_states = resolved.at("states").at("normal").get<std::vector<std::string>>();
  descriptions.abnormal_states = resolved.at("states").at("abnormal").get<std::vector<std::string>>();
  descriptions.source = resolved.at("source");
  descriptions.path = file;
  for (const auto& [name, entry] : resolved.at("classes").items()) {
    std::string prompt_name = entry.at("prompt_name");
    if (prompt_name.empty()) prompt_name = default_prompt_name(name);
    descriptions.classes[name] = {.prompt_name = prompt_name,
                                  .domain = entry.at("domain"),
                                  .descriptions = entry.at("descriptions").get<std::vector<std::string>>(),
                                  .detector_phrases = entry.at("detector_phrases").get<std::vector<std::string>>()};
  }
  return descriptions;
}

}  // namespace

std::string default_prompt_name(const std::string& class_name) {
  std::string words = class_name;
  std::replace(words.begin(), words.end(), '_', ' ');
  return words;
}

const ClassDescription& Descriptions::of(const std::string& class_name) const {
  const auto found = classes.find(class_name);
  if (found != classes.end()) return found->second;
  std::vector<std::string> known;
  for (const auto& entry : classes) known.push_back(entry.first);
  throw UsageError("settings: " + path + ": classes." + class_name,
                   "found no entry for this class, expected one such as `" + class_name +
                       ": {domain: industrial, descriptions: [cracked edge, dark stain]}` under `classes:`" +
                       did_you_mean(class_name, known));
}

Descriptions load_descriptions(const std::string& yaml_path) {
  const std::string path = shipped_file(yaml_path).string();
  return checked(read_yaml(path), path, 1);
}

Descriptions generic_descriptions(const std::vector<std::string>& class_names) {
  Descriptions descriptions;
  descriptions.normal_states = {
      "{}", "flawless {}", "perfect {}", "unblemished {}", "{} without flaw", "{} without defect", "{} without damage"};
  descriptions.abnormal_states = {"damaged {}", "{} with flaw", "{} with defect", "{} with damage"};
  descriptions.source = Json::object();
  descriptions.path = "descriptions: none";
  for (const auto& name : class_names)
    descriptions.classes[name] = {.prompt_name = default_prompt_name(name), .domain = "industrial", .descriptions = {}};
  return descriptions;
}

Descriptions descriptions_named(const std::string& source, const std::vector<std::string>& class_names) {
  return source == "none" ? generic_descriptions(class_names) : load_descriptions(source);
}

std::string to_yaml(const Descriptions& descriptions) {
  const auto texts = [](const std::vector<std::string>& list) { return Json(list).dump(); };  // YAML too
  std::string yaml = "source: " + descriptions.source.dump() +
                     "\n\nstates:\n  normal: " + texts(descriptions.normal_states) +
                     "\n  abnormal: " + texts(descriptions.abnormal_states) + "\n\nclasses:\n";
  for (const auto& [name, entry] : descriptions.classes) {
    yaml += "  " + name + ":\n    prompt_name: " + Json(entry.prompt_name).dump() +
            "\n    domain: " + Json(entry.domain).dump() + "\n    descriptions: " + texts(entry.descriptions) + "\n";
    if (!entry.detector_phrases.empty()) yaml += "    detector_phrases: " + texts(entry.detector_phrases) + "\n";
  }
  return yaml;
}

Json to_json(const Descriptions& descriptions) {
  Json classes = Json::object();
  for (const auto& [name, entry] : descriptions.classes) {
    classes[name] = {
        {"prompt_name", entry.prompt_name}, {"domain", entry.domain}, {"descriptions", entry.descriptions}};
    if (!entry.detector_phrases.empty()) classes[name]["detector_phrases"] = entry.detector_phrases;
  }
  return {{"source", descriptions.source},
          {"states", {{"normal", descriptions.normal_states}, {"abnormal", descriptions.abnormal_states}}},
          {"classes", classes}};
}

Descriptions descriptions_from_json(const Json& json, const std::string& where) {
  return checked(source_value(json), where, 0);
}

}  // namespace filo
