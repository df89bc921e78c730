// JSON: nlohmann-json under one name, and the canonical form that content keys are computed over.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

namespace filo {

using Json = nlohmann::json;  // objects keep their keys sorted

// Sorted keys, no blanks, shortest round-trip numbers, UTF-8: equal values give equal bytes.
std::string canonical_json(const Json& value);

// Throws Error naming the file and the position where it is not JSON (or cannot be read).
Json read_json(const std::filesystem::path& path);

// Indented by two, newline at the end; written atomically (base/files.hpp).
void write_json(const std::filesystem::path& path, const Json& value);

}  // namespace filo
