// JSON: nlohmann-json under one name, and the canonical form that content keys are computed over.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

namespace filo {

using Json = nlohmann::json;  // objects keep their keys sorted

// Sorted keys, no blanks, shortest round-trip numbers, UTF-8: equal values give equal bytes.
std::string canonical_json(const Json& value);

// Throws Error naming the file and the position where it is not JSON (or cannot be read).
Json read_json(const std::filesystem::path& path);

// What the library says is wrong, for a message: without its tag, and printable.
std::string told(const Json::exception& problem);

// Unset where read_json() would throw: a file that may be absent, torn by a full disk of long ago, or edited by hand.
std::optional<Json> read_json_if_sound(const std::filesystem::path& path);

// A member of an object; `otherwise` where `object` is none, or has no such member of this type.
std::string text_of(const Json& object, const char* key, const std::string& otherwise = "");
double number_of(const Json& object, const char* key, double otherwise = 0);

// Indented by two, newline at the end; written atomically (base/files.hpp).
void write_json(const std::filesystem::path& path, const Json& value);

}  // namespace filo
