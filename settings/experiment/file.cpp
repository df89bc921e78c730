#include "settings/experiment/file.hpp"

#include <algorithm>

#include "base/error.hpp"
#include "base/installed.hpp"
#include "base/text.hpp"
#include "settings/yaml.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;

const std::vector<std::string> base_keys = {"base",      "data",  "folds",   "model",  "train", "evaluate",
                                            "resources", "seeds", "exclude", "export", "note",  "tracking"};

bool contains(const std::vector<std::string>& paths, const fs::path& path) {
  return std::find(paths.begin(), paths.end(), canonical_path(path)) != paths.end();
}

// `name` as `file` means it: beside `file`, or one of the files that came with the programs.
fs::path named_in(const fs::path& file, const std::string& name) {
  const fs::path beside = file.parent_path() / name;
  std::error_code error;
  if (fs::exists(beside, error)) return beside;
  const fs::path shipped = shipped_file(name);
  return fs::exists(shipped, error) ? shipped : beside;
}

std::vector<fs::path> included_files(const SourceValue& source, const std::string& path,
                                     const std::vector<std::string>& open) {
  std::vector<fs::path> files;
  const SourceValue* include = source.find("include");
  if (include == nullptr) return files;
  Problems problems(path);
  for (std::size_t i = 0; i < include->items.size(); ++i) {
    const SourceValue& item = include->items[i];
    if (!item.scalar.is_string()) continue;
    const std::string key = "include[" + std::to_string(i) + "]";
    const fs::path file = named_in(path, item.scalar.get<std::string>());
    std::error_code error;
    if (!fs::is_regular_file(file, error))
      problems.add(item, key,
                   "found " + describe(item) + ", expected an experiment file; " + file.string() + " is none");
    else if (contains(open, file))
      problems.add(item, key, "found " + describe(item) + ", which includes this file again, expected no cycle");
    else
      files.push_back(file);
  }
  problems.throw_if_any();
  return files;
}

// The file that `base:` names; empty where there is none. `files`: that far.
fs::path base_of(const SourceValue& source, const fs::path& path, const std::vector<std::string>& files) {
  const SourceValue* base = source.find("base");
  if (base == nullptr || base->is_absent()) return {};
  if (base->scalar.is_string()) return named_in(path, base->scalar.get<std::string>());
  Problems problems(files);
  problems.add(*base, "base", "found " + describe(*base) + ", expected the path of a file");
  problems.throw_if_any();
  return {};
}

void check_base(const SourceValue& base, const std::vector<std::string>& files) {
  require_map(base, files.back(), "a base");
  Problems problems(files);
  std::string expected;
  for (const auto& key : base_keys) expected += (expected.empty() ? "" : ", ") + key;
  for (const auto& field : base.fields)
    if (std::find(base_keys.begin(), base_keys.end(), field.name) == base_keys.end())
      problems.add(field.place(), field.name,
                   "found an unknown key of a base, expected one of " + expected + did_you_mean(field.name, base_keys));
  problems.throw_if_any();
}

// Puts the bases below what the file says, from the nearest on.
void add_bases(ExperimentFile& file, const std::string& instead) {
  std::vector<std::string> chain = {canonical_path(file.path)};
  fs::path next = instead.empty() ? base_of(file.source, file.path, file.files) : shipped_file(instead);
  while (!next.empty()) {
    if (contains(chain, next))
      throw UsageError("settings: " + file.files.back() + ": base",
                       "found " + in_quotes(next.string()) + ", which builds on this file, expected no cycle");
    chain.push_back(canonical_path(next));
    SourceValue base = read_yaml(next, static_cast<int>(file.files.size()));
    file.files.push_back(next.string());
    check_base(base, file.files);
    next = base_of(base, next, file.files);
    if (const SourceValue* exclude = base.find("exclude")) file.base_excludes.push_back(*exclude);
    base.erase("exclude");
    base.erase("base");
    file.source = merged(base, file.source);
  }
}

}  // namespace

ExperimentFile read_experiment_file(const fs::path& path, const std::string& base,
                                    const std::vector<std::string>& open) {
  ExperimentFile file;
  file.path = path.string();
  file.files = {file.path};
  file.source = read_yaml(path);
  require_map(file.source, file.path, "an experiment");
  file.included = included_files(file.source, file.path, open);
  file.has_own_trials = file.included.empty() || file.source.find("folds") != nullptr ||
                        file.source.find("base") != nullptr ||
                        file.included.size() < file.source.find("include")->items.size();
  if (file.has_own_trials) add_bases(file, base);
  return file;
}

std::string canonical_path(const fs::path& path) {
  std::error_code error;
  const fs::path found = fs::weakly_canonical(path, error);
  return error ? path.string() : found.string();
}

}  // namespace filo
