#include "base/json.hpp"

#include "base/error.hpp"
#include "base/files.hpp"

namespace filo {

std::string canonical_json(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::strict); }

Json read_json(const std::filesystem::path& path) {
  const std::string text = read_file(path);
  try {
    return Json::parse(text);
  } catch (const Json::parse_error& error) {
    throw Error("json: " + path.string(), "not valid JSON at byte " + std::to_string(error.byte) + ": " + error.what());
  }
}

void write_json(const std::filesystem::path& path, const Json& value) {
  write_file_atomically(path, value.dump(2) + "\n");
}

}  // namespace filo
