// Descriptions files (configs/descriptions/*.yaml): the states and the fine-grained defects of each class, which the
// text prompts are made of.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/json.hpp"

namespace filo {

struct ClassDescription {
  std::string prompt_name;                // the [cls] of the prompts; defaults to the class's name with '_' read as ' '
  std::string domain;                     // the [domain] of the fixed template; default "industrial"
  std::vector<std::string> descriptions;  // "cracked rim", ...
  // What a detector of boxes is asked for; empty: the descriptions.
  std::vector<std::string> detector_phrases{};

  const std::vector<std::string>& phrases() const { return detector_phrases.empty() ? descriptions : detector_phrases; }
};

struct Descriptions {
  std::vector<std::string> normal_states;    // "{}", "flawless {}", ...
  std::vector<std::string> abnormal_states;  // "damaged {}", ...
  std::map<std::string, ClassDescription> classes;
  Json source;  // model, date, prompt

  // Throws UsageError that shows the YAML entry to add when `class_name` is absent.
  const ClassDescription& of(const std::string& class_name) const;
  std::string path;
};

// Throws UsageError "file:line: ..." on an unknown key, a wrong type, an empty list, a state without {}.
// The path of the file stands in `path`.
Descriptions load_descriptions(const std::string& yaml_path);
std::string to_yaml(const Descriptions& descriptions);  // the file itself
Json to_json(const Descriptions& descriptions);         // what a stage's spec carries, so that a run is self-contained
Descriptions descriptions_from_json(const Json& json, const std::string& where);

// What `descriptions: none` means: WinCLIP's generic states, and for each class its name and no fine-grained defect.
Descriptions generic_descriptions(const std::vector<std::string>& class_names);

// What model.prompts.descriptions names: a file, or "none".
Descriptions descriptions_named(const std::string& source, const std::vector<std::string>& class_names);

// "metal_nut" -> "metal nut".
std::string default_prompt_name(const std::string& class_name);

}  // namespace filo
