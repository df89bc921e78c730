// The layouts that a listing tells: visa, meta and table.
#include <algorithm>
#include <array>
#include <cctype>
#include <functional>
#include <sstream>

#include "base/files.hpp"
#include "base/text.hpp"
#include "base/utf8.hpp"
#include "data/datasets/layouts.hpp"

namespace filo::dataset_layouts {

namespace fs = std::filesystem;

namespace {

// One line of a CSV file; quotes as in RFC 4180. Nothing where a quote is not closed.
std::optional<std::vector<std::string>> split_csv_line(const std::string& line) {
  std::vector<std::string> fields(1);
  bool quoted = false;
  for (std::size_t i = 0; i < line.size(); ++i) {
    if (quoted && line[i] == '"' && i + 1 < line.size() && line[i + 1] == '"')
      fields.back().push_back(line[++i]);
    else if (line[i] == '"')
      quoted = !quoted;
    else if (line[i] == ',' && !quoted)
      fields.emplace_back();
    else
      fields.back().push_back(line[i]);
  }
  if (quoted) return std::nullopt;
  return fields;
}

struct Columns {
  std::vector<std::string> required, optional;

  std::string expected() const {
    std::string text;
    for (const std::string& name : required) text += (text.empty() ? "" : ",") + name;
    for (const std::string& name : optional) text += "[," + name + "]";
    return text;
  }
  bool is_known(const std::string& name) const {
    const auto among = [&](const auto& names) { return std::find(names.begin(), names.end(), name) != names.end(); };
    return among(required) || among(optional);
  }
  // Of a column that is none of these: what it most likely should be called, of what `given` lacks.
  std::string meant(const std::string& name, const std::vector<std::string>& given) const {
    if (is_known(name)) return "";
    std::vector<std::string> missing;
    for (const auto* names : {&required, &optional})
      for (const std::string& known : *names)
        if (std::find(given.begin(), given.end(), known) == given.end()) missing.push_back(known);
    return did_you_mean(name, missing);
  }
};

// One line of a table.
struct Row {
  std::string where;                          // "FILE:LINE"
  std::map<std::string, std::string> fields;  // by column, those that are not known too

  std::string field(const std::string& name) const {
    const auto found = fields.find(name);
    return found == fields.end() ? "" : found->second;
  }
};

// What is wrong with a table's header; true where nothing is.
bool check_header(const std::vector<std::string>& header, const Columns& columns, const std::string& where,
                  Listing* listing) {
  const std::size_t before = listing->problems.size();
  const auto problem = [&](const std::string& reason) { listing->problems.push_back({where, reason, ""}); };
  for (const std::string& name : columns.required)
    if (std::find(header.begin(), header.end(), name) == header.end())
      problem("has no column '" + name + "', expected " + columns.expected());
  for (std::size_t i = 0; i < header.size(); ++i) {
    if (std::find(header.begin(), header.begin() + static_cast<std::ptrdiff_t>(i), header[i]) !=
        header.begin() + static_cast<std::ptrdiff_t>(i))
      problem("has the column '" + printable(header[i]) + "' twice");
    if (const std::string meant = columns.meant(header[i], header); !meant.empty())
      problem("has a column '" + printable(header[i]) + "', expected " + columns.expected() + meant);
  }
  return listing->problems.size() == before;
}

using UseRow = std::function<void(const Row&)>;

// use(row) for the lines below a CSV file's header. A field in quotes may hold commas and doubled quotes, but no line
// break.
void for_each_csv_row(const std::string& text, const std::string& file, const Columns& columns, Listing* listing,
                      const UseRow& use) {
  std::istringstream lines(text);
  std::string line;
  std::vector<std::string> header;
  for (int number = 1; std::getline(lines, line); ++number) {
    const std::string where = file + ":" + std::to_string(number);
    if (number == 1 && line.starts_with("\xef\xbb\xbf")) line.erase(0, 3);
    if (line.ends_with('\r')) line.pop_back();
    if (line.empty()) continue;
    const auto fields = split_csv_line(line);
    if (!fields) {
      listing->problems.push_back({where, "a quote is not closed", ""});
    } else if (header.empty()) {
      header = *fields;
      if (!check_header(header, columns, where, listing)) return;
    } else if (fields->size() != header.size()) {
      listing->problems.push_back(
          {where, "has " + std::to_string(fields->size()) + " fields, expected " + std::to_string(header.size()), ""});
    } else {
      Row row{where, {}};
      for (std::size_t i = 0; i < header.size(); ++i) row.fields[header[i]] = (*fields)[i];
      use(row);
    }
  }
}

// use(row) for the lines of a JSON lines file, an object each; null is as good as nothing.
void for_each_json_row(const std::string& text, const std::string& file, const Columns& columns, Listing* listing,
                       const UseRow& use) {
  std::istringstream lines(text);
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    Row row{file + ":" + std::to_string(number), {}};
    const Json object = Json::parse(line, nullptr, false);
    if (!object.is_object()) {
      listing->problems.push_back({row.where, "is no JSON object", ""});
      continue;
    }
    std::vector<std::string> header;
    bool good = true;
    for (const auto& [name, value] : object.items()) {
      header.push_back(name);
      if (value.is_string())
        row.fields[name] = value.get<std::string>();
      else if (value.is_number_integer())
        row.fields[name] = value.dump();
      else if (columns.is_known(name) && !value.is_null()) {
        listing->problems.push_back({row.where, name + " is neither text nor a whole number", ""});
        good = false;
      }
    }
    if (good && check_header(header, columns, row.where, listing)) use(row);
  }
}

// Existence and the rules that listings share; problems are named by `where` (line or key).
void check_listed(const fs::path& root, DatasetImage image, bool with_masks, const std::string& where,
                  Listing* listing) {
  const auto problem = [&](const std::string& reason, const std::string& kind = "") {
    listing->problems.push_back({where, reason, kind});
  };
  bool good = true;
  const auto check_path = [&](const std::string& path, const std::string& what) {
    if (const std::string fault = path_fault(path); !fault.empty()) {
      problem(what + ": " + fault);
      good = false;
    } else if (!fs::is_regular_file(root / path)) {
      problem(what + " " + path + " is missing", what + " is missing");
      good = false;
    }
  };
  check_path(image.path, "image");
  if (image.label == 0 || !with_masks) image.mask.reset();
  if (image.mask) check_path(*image.mask, "mask");
  if (image.class_name.empty() || !is_utf8(image.class_name) || !is_utf8(image.defect)) {
    problem("the class or defect is empty or not UTF-8");
    good = false;
  }
  if (!good) return;
  if (image.label == 1 && !image.mask)
    listing->missing_masks.push_back({where, "the mask of " + image.path + " is missing", "the mask is missing"});
  listing->images.push_back(std::move(image));
}

// "train" or "test"; a problem and nothing where it is neither.
std::optional<std::string> split_of(const Row& row, const std::string& split, Listing* listing) {
  if (split == "train" || split == "test") return split;
  listing->problems.push_back({row.where, "split is '" + printable(split) + "', expected train or test", ""});
  return std::nullopt;
}

}  // namespace

Listing list_visa(const fs::path& root, bool with_masks) {
  const std::string file = "split_csv/1cls.csv";
  Listing listing;
  if (!fs::is_regular_file(root / file)) {
    listing.problems.push_back({file, "is missing, expected the listing of VisA's layout", ""});
    return listing;
  }
  const Columns columns = {{"object", "split", "label", "image", "mask"}, {}};
  for_each_csv_row(read_file(root / file), file, columns, &listing, [&](const Row& row) {
    const auto split = split_of(row, row.field("split"), &listing);
    const std::string label = row.field("label");
    if (!split) return;
    if (label != "normal" && label != "anomaly") {
      listing.problems.push_back({row.where, "label is '" + printable(label) + "', expected normal or anomaly", ""});
      return;
    }
    DatasetImage image;
    image.path = row.field("image");
    if (!row.field("mask").empty()) image.mask = row.field("mask");
    image.class_name = row.field("object");
    image.split = *split;
    image.label = label == "anomaly" ? 1 : 0;
    image.defect = image.label == 1 ? "anomaly" : "good";
    check_listed(root, std::move(image), with_masks, row.where, &listing);
  });
  return listing;
}

namespace {

// The table of a folder that names none, or nothing after saying why.
std::optional<fs::path> find_table(const fs::path& root, Listing* listing) {
  std::vector<fs::path> tables;
  std::string names;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(root, error)) {
    const fs::path& path = entry.path();
    if (path.extension() == ".csv" || path.extension() == ".jsonl") tables.push_back(path);
  }
  std::sort(tables.begin(), tables.end());
  for (const fs::path& table : tables) names += (names.empty() ? "" : ", ") + printable(table.filename().string());
  if (tables.size() == 1) return tables.front();
  listing->problems.push_back(
      {root.string(),
       "holds " + (names.empty() ? "no table" : "several tables (" + names + ")") +
           std::string(", expected one .csv or .jsonl file that lists its images, or --table FILE"),
       ""});
  return std::nullopt;
}

// 0 or 1; nothing where the word is not known.
std::optional<int> label_from(std::string word) {
  std::transform(word.begin(), word.end(), word.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  for (const char* normal : {"0", "normal", "good", "ok"})
    if (word == normal) return 0;
  for (const char* anomalous : {"1", "anomaly", "anomalous", "abnormal", "defect", "defective", "bad", "nok"})
    if (word == anomalous) return 1;
  return std::nullopt;
}

}  // namespace

Listing list_table(const fs::path& root, const fs::path& table, bool with_masks) {
  Listing listing;
  const auto path = table.empty() ? find_table(root, &listing) : std::optional(table);
  if (!path) return listing;
  const std::string file = printable(table.empty() ? path->filename().string() : path->string());
  if (!fs::is_regular_file(*path)) {
    listing.problems.push_back({file, "is no file, expected the table that lists the images", ""});
    return listing;
  }
  const Columns columns = {{"image", "label"}, {"mask", "class", "split", "defect"}};
  const auto& for_each_row = path->extension() == ".jsonl" ? for_each_json_row : for_each_csv_row;
  for_each_row(read_file(*path), file, columns, &listing, [&](const Row& row) {
    const auto label = label_from(row.field("label"));
    const auto split = split_of(row, row.field("split").empty() ? "test" : row.field("split"), &listing);
    if (!label)
      listing.problems.push_back({row.where,
                                  "label is '" + printable(row.field("label")) +
                                      "', expected 0, normal, good or ok, or 1, anomaly, anomalous, "
                                      "abnormal, defect, defective, bad or nok",
                                  ""});
    if (!label || !split) return;
    DatasetImage image;
    image.path = row.field("image");
    if (!row.field("mask").empty()) image.mask = row.field("mask");
    image.class_name = row.field("class").empty() ? "object" : row.field("class");
    image.split = *split;
    image.label = *label;
    if (*label == 1) image.defect = row.field("defect").empty() ? "anomaly" : row.field("defect");
    if (*label == 1 && image.defect == "good")
      listing.problems.push_back({row.where, "defect is 'good' of an anomalous image, expected another name", ""});
    else
      check_listed(root, std::move(image), with_masks, row.where, &listing);
  });
  return listing;
}

Listing list_meta(const fs::path& root, bool with_masks) {
  Listing listing;
  if (!fs::is_regular_file(root / "meta.json")) {
    listing.problems.push_back({"meta.json", "is missing, expected the listing of this layout", ""});
    return listing;
  }
  const Json meta = read_json(root / "meta.json");
  const auto problem = [&](const std::string& key, const std::string& reason) {
    listing.problems.push_back({"meta.json: " + key, reason, ""});
  };
  if (!meta.is_object()) {
    problem("(top)", "is not an object, expected {\"train\": {...}, \"test\": {...}}");
    return listing;
  }
  for (const auto& [split, classes] : meta.items()) {
    if ((split != "train" && split != "test") || !classes.is_object()) {
      problem(split, "is not understood, expected \"train\" or \"test\" with an object of classes");
      continue;
    }
    for (const auto& [class_name, entries] : classes.items()) {
      const std::string class_key = split + "." + class_name;
      if (!entries.is_array()) {
        problem(class_key, "is not a list");
        continue;
      }
      if (entries.empty()) problem(class_key, "is empty");
      for (std::size_t i = 0; i < entries.size(); ++i) {
        const Json& entry = entries[i];
        const std::string key = class_key + "[" + std::to_string(i) + "]";
        const auto text = [&](const char* name) {
          return entry.is_object() && entry.contains(name) && entry[name].is_string()
                     ? std::optional<std::string>(entry[name].get<std::string>())
                     : std::nullopt;
        };
        const auto image_path = text("img_path"), class_text = text("cls_name");
        const std::string mask = text("mask_path").value_or(""), specie = text("specie_name").value_or("");
        const Json anomaly = entry.is_object() ? entry.value("anomaly", Json()) : Json();
        const bool labelled = anomaly == Json(0) || anomaly == Json(1);
        if (!image_path) {
          problem(key + ".img_path", "is missing or not text");
        } else if (!labelled) {
          problem(key + ".anomaly", "is missing or neither 0 nor 1");
        } else if (class_text && *class_text != class_name) {
          problem(key + ".cls_name", "is '" + *class_text + "', expected '" + class_name + "'");
        } else {
          DatasetImage image;
          image.path = *image_path;
          if (!mask.empty()) image.mask = mask;
          image.class_name = class_name;
          image.split = split;
          image.label = entry["anomaly"].get<int>();
          image.defect = image.label == 0 ? "good" : specie.empty() ? "anomaly" : specie;
          check_listed(root, std::move(image), with_masks, "meta.json: " + key, &listing);
        }
      }
    }
  }
  return listing;
}

}  // namespace filo::dataset_layouts
