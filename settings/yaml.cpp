#include "settings/yaml.hpp"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <unordered_map>

#include "base/error.hpp"
#include "base/files.hpp"

namespace filo {
namespace {

constexpr std::size_t most_values = 1'000'000;  // aliases of aliases grow exponentially
constexpr int most_depth = 100;
constexpr std::uintmax_t most_bytes = 64 << 20;

std::string place(const std::string& file, int line) {
  return "settings: " + file + (line > 0 ? ":" + std::to_string(line) : "");
}

bool is_one_of(const std::string& text, std::initializer_list<const char*> words) {
  return std::find(words.begin(), words.end(), text) != words.end();
}

// A plain scalar by YAML 1.2's core schema ("yes" and "on" are text there).
Json plain_scalar(const std::string& text) {
  if (is_one_of(text, {"", "~", "null", "Null", "NULL"})) return nullptr;
  if (is_one_of(text, {"true", "True", "TRUE"})) return true;
  if (is_one_of(text, {"false", "False", "FALSE"})) return false;
  if (is_one_of(text, {".inf", ".Inf", ".INF", "+.inf"})) return std::numeric_limits<double>::infinity();
  if (is_one_of(text, {"-.inf", "-.Inf", "-.INF"})) return -std::numeric_limits<double>::infinity();
  if (is_one_of(text, {".nan", ".NaN", ".NAN"})) return std::nan("");
  const char* first = text.data() + (text[0] == '+' ? 1 : 0);
  const char* last = text.data() + text.size();
  if (first == last || (*first == '-' && text[0] == '+')) return text;
  if (std::isalpha(static_cast<unsigned char>(first[*first == '-' ? 1 : 0])))
    return text;  // from_chars reads "inf", "nan"
  std::uint64_t natural = 0;
  if (auto [end, error] = std::from_chars(first, last, natural); error == std::errc() && end == last) return natural;
  std::int64_t whole = 0;
  if (auto [end, error] = std::from_chars(first, last, whole); error == std::errc() && end == last) return whole;
  double real = 0;
  if (auto [end, error] = std::from_chars(first, last, real); error == std::errc() && end == last) return real;
  return text;
}

class Reader {
 public:
  Reader(const std::string& file, int index) : file_(file), index_(index) {}

  SourceValue read(const YAML::Node& node, int depth) {
    SourceValue value;
    value.line = node.Mark().line + 1;
    value.file = index_;
    if (++values_ > most_values || depth > most_depth)
      throw UsageError(place(file_, value.line),
                       "found values nested or repeated by aliases without end, expected at most " +
                           std::to_string(most_values) + " values, " + std::to_string(most_depth) + " deep");
    if (node.IsSequence()) {
      value.kind = SourceValue::Kind::list;
      for (const auto& item : node) value.items.push_back(read(item, depth + 1));
    } else if (node.IsMap()) {
      value.kind = SourceValue::Kind::map;
      std::unordered_map<std::string, int> lines;  // of the keys so far
      for (const auto& entry : node) read_field(entry.first, entry.second, depth, value, lines);
    } else if (node.IsScalar()) {
      value.scalar = node.Tag() == "!" ? Json(node.Scalar()) : plain_scalar(node.Scalar());
    }
    return value;
  }

 private:
  void read_field(const YAML::Node& name, const YAML::Node& content, int depth, SourceValue& map,
                  std::unordered_map<std::string, int>& lines) {
    const int line = name.Mark().line + 1;
    if (!name.IsScalar()) throw UsageError(place(file_, line), "found a list or map as a key, expected text");
    const auto& text = name.Scalar();
    if (const auto [first, is_new] = lines.emplace(text, line); !is_new)
      throw UsageError(place(file_, line) + ": " + text,
                       "found this key twice (first in line " + std::to_string(first->second) + "), expected it once");
    map.fields.push_back({text, line, read(content, depth + 1)});
  }

  const std::string& file_;
  int index_;
  std::size_t values_ = 0;
};

SourceValue parse(const std::string& text, const std::string& file, int index) {
  try {
    return Reader(file, index).read(YAML::Load(text), 0);
  } catch (const YAML::Exception& error) {
    throw UsageError(place(file, error.mark.line + 1), "found what is not YAML: " + error.msg);
  }
}

}  // namespace

SourceValue parse_yaml(const std::string& text, const std::string& file) { return parse(text, file, 0); }

SourceValue read_yaml(const std::filesystem::path& path, int file) {
  std::error_code error;
  const auto bytes = std::filesystem::file_size(path, error);
  if (error) throw UsageError(place(path.string(), 0), "cannot be read: " + error.message());
  if (bytes > most_bytes)
    throw UsageError(
        place(path.string(), 0),
        "found " + std::to_string(bytes) + " bytes, expected a settings file of at most " + std::to_string(most_bytes));
  return parse(read_file(path), path.string(), file);
}

}  // namespace filo
