#include "base/json.hpp"

#include "base/error.hpp"
#include "base/files.hpp"
#include "base/utf8.hpp"

namespace filo {

std::string canonical_json(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::strict); }

Json read_json(const std::filesystem::path& path) {
  const std::string text = read_file(path);
  try {
    return Json::parse(text);
  } catch (const Json::parse_error& error) {
    throw Error("json: " + path.string(), "not valid JSON at byte " + std::to_string(error.byte) + ": " + told(error));
  }
}

std::string told(const Json::exception& problem) {
  const std::string message = problem.what();  // "[json.exception.parse_error.101] parse error at ..."
  return printable(message.substr(message.find("] ") + 2));
}

std::optional<Json> read_json_if_sound(const std::filesystem::path& path) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return std::nullopt;
  try {
    return read_json(path);
  } catch (const Error&) {
    return std::nullopt;
  }
}

std::string text_of(const Json& object, const char* key, const std::string& otherwise) {
  if (!object.is_object()) return otherwise;
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : otherwise;
}

double number_of(const Json& object, const char* key, double otherwise) {
  if (!object.is_object()) return otherwise;
  const auto found = object.find(key);
  return found != object.end() && found->is_number() ? found->get<double>() : otherwise;
}

void write_json(const std::filesystem::path& path, const Json& value) {
  write_file_atomically(path, value.dump(2) + "\n");
}

}  // namespace filo
