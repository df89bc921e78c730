#include "settings/published_descriptions.hpp"

#include <algorithm>
#include <optional>
#include <string_view>

#include "base/error.hpp"
#include "base/files.hpp"
#include "base/hash.hpp"

namespace filo {
namespace {

constexpr std::string_view name_characters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_";
constexpr std::string_view details_suffix = "_anomaly_detail_gpt";

// Reads a Python literal of texts, lists and dictionaries (docs.python.org/3/reference/lexical_analysis.html): as much
// of the language as FiLo's tables are written in. Every reader gives nothing where something else stands.
class LiteralReader {
 public:
  explicit LiteralReader(std::string_view text) : rest_(text) {}

  std::optional<Json> value() {
    skip_blanks();
    if (rest_.starts_with('"') || rest_.starts_with('\'')) return texts();
    if (take('[')) return list(']');
    if (take('(')) return list(')');
    if (take('{')) return dictionary();
    return std::nullopt;
  }
  bool take(char wanted) {
    skip_blanks();
    if (!rest_.starts_with(wanted)) return false;
    rest_.remove_prefix(1);
    return true;
  }

 private:
  void skip_blanks() {
    while (!rest_.empty()) {
      if (rest_.front() == '#')
        rest_.remove_prefix(std::min(rest_.find('\n'), rest_.size()));
      else if (std::string_view(" \t\r\n").find(rest_.front()) != std::string_view::npos)
        rest_.remove_prefix(1);
      else
        return;
    }
  }

  // One text, or several that follow each other.
  std::optional<Json> texts() {
    std::string joined;
    do {
      if (!text(joined)) return std::nullopt;
      skip_blanks();
    } while (rest_.starts_with('"') || rest_.starts_with('\''));
    return joined;
  }

  bool text(std::string& into) {
    const char quote = rest_.front();
    rest_.remove_prefix(1);
    while (!rest_.empty() && rest_.front() != '\n') {
      const char next = rest_.front();
      rest_.remove_prefix(1);
      if (next == quote) return true;
      if (next != '\\') {
        into += next;
        continue;
      }
      constexpr std::string_view escaped = "\\'\"nt", meant = "\\'\"\n\t";
      const auto which = rest_.empty() ? std::string_view::npos : escaped.find(rest_.front());
      if (which == std::string_view::npos) return false;
      into += meant[which];
      rest_.remove_prefix(1);
    }
    return false;
  }

  std::optional<Json> list(char end) {
    Json items = Json::array();
    while (!take(end)) {
      std::optional<Json> item = value();
      if (!item) return std::nullopt;
      items.push_back(*std::move(item));
      if (!take(',')) return take(end) ? std::optional(items) : std::nullopt;
    }
    return items;
  }

  std::optional<Json> dictionary() {
    Json entries = Json::array();  // [key, value]: their order counts
    while (!take('}')) {
      const std::optional<Json> key = value();
      if (!key || !key->is_string() || !take(':')) return std::nullopt;
      std::optional<Json> item = value();
      if (!item) return std::nullopt;
      entries.push_back({*key, *std::move(item)});
      if (!take(',')) return take('}') ? std::optional(entries) : std::nullopt;
    }
    return entries;
  }

  std::string_view rest_;
};

// What stands behind a `NAME = ` or `NAME["KEY"] = ` at the beginning of a line.
struct Assignment {
  std::string name, key{};
  int line = 0;
  std::string_view value{};  // and all that follows it
};

std::vector<Assignment> assignments(std::string_view source) {
  std::vector<Assignment> found;
  int line = 1;
  for (std::size_t start = 0; start < source.size(); ++line) {
    const std::size_t end = std::min(source.find('\n', start), source.size());
    std::string_view rest = source.substr(start);
    Assignment one{.name = std::string(rest.substr(0, rest.find_first_not_of(name_characters))), .line = line};
    rest.remove_prefix(one.name.size());
    if (rest.starts_with("[\"") || rest.starts_with("['")) {
      const auto close = rest.find(rest[1], 2);
      if (close != std::string_view::npos) {
        one.key = rest.substr(2, close - 2);
        rest.remove_prefix(std::min(close + 2, rest.size()));
      }
    }
    const auto sign = std::min(rest.find_first_not_of(' '), rest.size());
    rest.remove_prefix(sign);
    if (!one.name.empty() && rest.starts_with('=') && !rest.starts_with("==")) {
      one.value = rest.substr(1);
      found.push_back(std::move(one));
    }
    start = end + 1;
  }
  return found;
}

std::vector<std::string> split_at_commas(std::string_view details) {
  std::vector<std::string> parts;
  for (std::size_t start = 0;;) {
    const auto comma = details.find(',', start);
    parts.emplace_back(details.substr(start, comma == std::string_view::npos ? comma : comma - start));
    if (comma == std::string_view::npos) return parts;
    start = comma + 1;
  }
}

// As data sets have them: "metal_nut".
std::string key_of(std::string class_name) {
  std::ranges::replace(class_name, ' ', '_');
  return class_name;
}

class PublishedFile {
 public:
  explicit PublishedFile(const std::filesystem::path& path)
      : path_(path.string()), source_(read_file(path)), assignments_(assignments(source_)) {}

  const std::string& source() const { return source_; }

  std::vector<std::string> texts(const std::string& name) const {
    for (const Assignment& one : assignments_) {
      if (one.name != name) continue;
      const std::optional<Json> value = LiteralReader(one.value).value();
      const bool sound = value && value->is_array() && !value->empty() &&
                         std::ranges::all_of(*value, [](const Json& item) { return item.is_string(); });
      if (!sound) refuse(one, "a list of texts");
      return value->get<std::vector<std::string>>();
    }
    throw UsageError(where() + name, "found no such list, expected models/FiLo.py of FiLo's repository");
  }

  // [class, details], in the file's order.
  std::vector<std::pair<std::string, std::string>> details() const {
    std::vector<std::pair<std::string, std::string>> all;
    for (const Assignment& one : assignments_) {
      if (!one.name.ends_with(details_suffix) || !one.key.empty()) continue;
      const std::optional<Json> value = LiteralReader(one.value).value();
      if (!value || !value->is_array()) refuse(one, "a dictionary of texts");
      for (const Json& entry : *value) {
        if (!entry.is_array() || !entry[1].is_string()) refuse(one, "a dictionary of texts");
        all.emplace_back(entry[0], entry[1]);
      }
    }
    if (all.empty())
      throw UsageError(where() + "*" + std::string(details_suffix),
                       "found no such dictionary, expected models/FiLo.py of FiLo's repository");
    return all;
  }

  // What prompts call the class.
  std::string spoken_name(const std::string& class_name) const {
    std::string spoken = class_name;
    for (const Assignment& one : assignments_) {
      if (one.name != "cls_map" || one.key != class_name) continue;
      const std::optional<Json> value = LiteralReader(one.value).value();
      if (!value || !value->is_string()) refuse(one, "a text");
      spoken = *value;
    }
    return spoken;
  }

 private:
  std::string where() const { return "descriptions: " + path_ + ": "; }
  [[noreturn]] void refuse(const Assignment& one, const std::string& expected) const {
    throw UsageError("descriptions: " + path_ + ":" + std::to_string(one.line) + ": " + one.name,
                     "found something else than a literal, expected " + expected);
  }

  std::string path_, source_;
  std::vector<Assignment> assignments_;
};

}  // namespace

Descriptions import_published_descriptions(const std::filesystem::path& path) {
  const PublishedFile file(path);
  Descriptions descriptions;
  descriptions.normal_states = file.texts("status_normal");
  descriptions.abnormal_states = file.texts("status_abnormal_winclip");
  std::map<std::string, std::vector<std::string>> by_spoken_name;
  for (const auto& [name, details] : file.details()) {
    ClassDescription entry{.prompt_name = file.spoken_name(name), .domain = "industrial", .descriptions = {}};
    by_spoken_name[entry.prompt_name] = split_at_commas(details);
    descriptions.classes[key_of(name)] = std::move(entry);
  }
  for (auto& [name, entry] : descriptions.classes) entry.descriptions = by_spoken_name.at(entry.prompt_name);
  const std::filesystem::path test = path.parent_path() / ".." / "test.py";
  for (const auto& [name, details] : std::filesystem::exists(test) ? PublishedFile(test).details() : file.details()) {
    const auto entry = descriptions.classes.find(key_of(name));
    if (entry == descriptions.classes.end()) continue;
    std::vector<std::string> phrases = split_at_commas(details);
    if (phrases != entry->second.descriptions) entry->second.detector_phrases = std::move(phrases);
  }
  descriptions.source = {{"file", path.filename().string()}, {"sha256", sha256_hex(file.source())}};
  descriptions.path = path.string();
  return descriptions;
}

}  // namespace filo
