// YAML as source values; the only part that knows yaml-cpp.
#pragma once

#include <filesystem>
#include <string>

#include "settings/source.hpp"

namespace filo {

// YAML 1.2 core types; anchors and aliases allowed. Throws UsageError "settings: FILE:LINE: ..." where it is not YAML,
// where a key stands twice, and where aliases expand to more than a million values.
SourceValue parse_yaml(const std::string& text, const std::string& file);
// Throws UsageError also when the file cannot be read. `file` becomes SourceValue::file of all that is in it.
SourceValue read_yaml(const std::filesystem::path& path, int file = 0);

}  // namespace filo
