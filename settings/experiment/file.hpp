// One experiment file as it lies on the disk: its YAML with its bases below it, and which files it includes.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "settings/source.hpp"

namespace filo {

struct ExperimentFile {
  std::string path;
  std::vector<std::string> files;               // by SourceValue::file: the file itself, then its bases
  SourceValue source;                           // a map; what the file says goes over what its bases say
  std::vector<SourceValue> base_excludes;       // `exclude:` of each base that has one, nearest first
  std::vector<std::filesystem::path> included;  // the texts of `include:`, beside the file
  bool has_own_trials = false;                  // more than the inclusion of others
};

// `base` takes the place of `base:` unless it is "". `open`: canonical paths of the files that are being read, this one
// among them; including one of them is a cycle. Throws UsageError "settings: FILE:LINE: KEY: ...".
ExperimentFile read_experiment_file(const std::filesystem::path& path, const std::string& base,
                                    const std::vector<std::string>& open);

// The same text for the same file, whatever way leads to it.
std::string canonical_path(const std::filesystem::path& path);

}  // namespace filo
