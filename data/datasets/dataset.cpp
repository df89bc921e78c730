#include "data/datasets/dataset.hpp"

#include <algorithm>
#include <atomic>
#include <cctype>
#include <mutex>
#include <set>
#include <span>
#include <tuple>

#include "base/files.hpp"
#include "base/hash.hpp"
#include "base/text.hpp"
#include "base/utf8.hpp"
#include "data/datasets/layouts.hpp"
#include "data/images/image.hpp"
#include "workspace/layout.hpp"

namespace filo {

namespace fs = std::filesystem;

namespace {

const std::map<std::string, DatasetFormat>& format_names() {
  static const std::map<std::string, DatasetFormat> names = {
      {"auto", DatasetFormat::automatic}, {"folder", DatasetFormat::folder}, {"meta", DatasetFormat::meta},
      {"mvtec", DatasetFormat::mvtec},    {"table", DatasetFormat::table},   {"visa", DatasetFormat::visa}};
  return names;
}

std::string joined(const std::vector<std::string>& parts) {
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : ", ") + part;
  return text.empty() ? "none" : text;
}

constexpr std::size_t most_told = 3;  // of one kind

// The problem's kind; where it names none, its reason without numbers and what stands in quotes.
std::string kind_of(const DatasetProblem& problem) {
  if (!problem.kind.empty()) return problem.kind;
  std::string kind;
  bool quoted = false;
  for (const char c : problem.reason) {
    if (c == '\'' && (quoted || kind.ends_with(' '))) quoted = !quoted;
    const bool particular = quoted || std::isdigit(static_cast<unsigned char>(c)) != 0;
    if (!particular || !kind.ends_with("...")) kind += particular ? "..." : std::string(1, c);
  }
  return kind;
}

std::string describe(const std::vector<DatasetProblem>& problems, const std::string& advice) {
  std::vector<std::pair<std::string, std::vector<const DatasetProblem*>>> kinds;  // in the order of their first problem
  std::map<std::string, std::size_t> place;
  for (const DatasetProblem& problem : problems) {
    const auto [found, is_new] = place.emplace(kind_of(problem), kinds.size());
    if (is_new) kinds.push_back({found->first, {}});
    kinds[found->second].second.push_back(&problem);
  }
  std::string text = std::to_string(problems.size()) + (problems.size() == 1 ? " problem" : " problems");
  for (const auto& [kind, alike] : kinds) {
    const bool many = alike.size() > most_told;
    if (many) text += "\n  " + std::to_string(alike.size()) + " times: " + kind;
    for (std::size_t i = 0; i < std::min(alike.size(), most_told); ++i)
      text += (many ? "\n    " : "\n  ") + alike[i]->path + ": " + alike[i]->reason;
    if (many) text += "\n    and " + std::to_string(alike.size() - most_told) + " more";
  }
  return advice.empty() ? text : text + "\n" + advice;
}

// The reason alone: "image: FILE: reason" is known to be about FILE.
std::string reason_of(const Error& error, const std::string& file) {
  const std::string message = error.what();
  const std::size_t at = message.find(file + ": ");
  return at == std::string::npos ? message : message.substr(at + file.size() + 2);
}

std::string size_text(ImageSize size) { return std::to_string(size.width) + " x " + std::to_string(size.height); }

// Problems from several threads, put in the images' order at the end.
class ProblemCollector {
 public:
  void add(std::size_t order, const std::string& path, const std::string& reason) {
    const std::lock_guard lock(mutex_);
    problems_.emplace_back(order, DatasetProblem{path, reason, ""});
  }
  std::vector<DatasetProblem> take() {
    std::stable_sort(problems_.begin(), problems_.end(),
                     [](const auto& a, const auto& b) { return a.first < b.first; });
    std::vector<DatasetProblem> result;
    for (auto& [order, problem] : problems_) result.push_back(std::move(problem));
    return result;
  }

 private:
  std::mutex mutex_;
  std::vector<std::pair<std::size_t, DatasetProblem>> problems_;
};

struct FileFacts {
  ImageSize size;
  bool grey16 = false;
  std::string sha256;
  std::string pixels_sha256;  // where it was decoded
};

std::string sha256_of_pixels(const Image& image) {
  const Image rgb = to_rgb(image);
  Sha256 sum;
  sum.update(size_text({rgb.width, rgb.height}));
  sum.update(std::as_bytes(std::span(rgb.pixels)));
  return sum.hex();
}

// A problem and nothing where the file cannot be read. Of a mask the header is enough.
std::optional<FileFacts> examine(const fs::path& root, const std::string& path, bool decodes, std::size_t order,
                                 ProblemCollector* problems) {
  const std::string file = (root / path).string();
  try {
    const std::string bytes = read_image_bytes(file);
    FileFacts facts{read_image_size(bytes, file), has_grey16(bytes, file), sha256_hex(bytes), {}};
    // What 8 bits leave of dark 16-bit grey may be alike where the images are not.
    if (decodes && !facts.grey16) facts.pixels_sha256 = sha256_of_pixels(decode_image(bytes, file));
    return facts;
  } catch (const Error& error) {
    problems->add(order, path, reason_of(error, file));
    return std::nullopt;
  }
}

// Whether the image is of 16-bit grey.
bool examine_image(const fs::path& root, std::size_t order, DatasetImage* image, ProblemCollector* problems) {
  const auto facts = examine(root, image->path, true, order, problems);
  if (facts) {
    image->width = facts->size.width;
    image->height = facts->size.height;
    image->sha256 = facts->sha256;
    image->pixels_sha256 = facts->pixels_sha256;
  }
  const bool grey16 = facts && facts->grey16;
  if (!image->mask) return grey16;
  const auto mask_facts = examine(root, *image->mask, false, order, problems);
  if (!mask_facts) return grey16;
  image->mask_sha256 = mask_facts->sha256;
  if (facts && mask_facts->size != facts->size)
    problems->add(order, *image->mask,
                  "is " + size_text(mask_facts->size) + " pixels, expected its image's " + size_text(facts->size));
  return grey16;
}

std::map<std::string, ClassCounts> count_classes(const std::vector<DatasetImage>& images) {
  std::map<std::string, ClassCounts> classes;
  for (const DatasetImage& image : images) {
    ClassCounts& counts = classes[image.class_name];
    ++(image.split == "train" ? counts.train : counts.test);
    counts.anomalous += image.label;
    counts.unmasked += image.label == 1 && !image.mask ? 1 : 0;
  }
  return classes;
}

// What dataset_layouts looks for, in a few words.
std::string shape_of(DatasetFormat format) {
  switch (format) {
    case DatasetFormat::mvtec:
      return "CLASS/train/good/*.png, CLASS/test/DEFECT/*.png";
    case DatasetFormat::visa:
      return "split_csv/1cls.csv with a line for each image";
    case DatasetFormat::meta:
      return "meta.json with an entry for each image";
    case DatasetFormat::table:
      return "a table with a line for each image";
    default:
      return "CLASS/good/*.png, CLASS/DEFECT/*.png: a folder for each class in the folder that is added";
  }
}

void sort_images(std::vector<DatasetImage>* images) {
  std::sort(images->begin(), images->end(), [](const DatasetImage& a, const DatasetImage& b) {
    return std::tie(a.class_name, a.split, a.path) < std::tie(b.class_name, b.split, b.path);
  });
}

void check_name(const std::string& name) {
  const bool good =
      !name.empty() && name.size() <= 100 && name[0] != '.' &&
      name.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == std::string::npos;
  if (!good)
    throw UsageError("dataset: name",
                     "is '" + name + "', expected letters, digits and ._-, not beginning with a dot, at most 100");
}

}  // namespace

DatasetFormat dataset_format_from(const std::string& name) {
  const auto found = format_names().find(name);
  if (found == format_names().end())
    throw UsageError("dataset: format", "is '" + name + "', expected auto, mvtec, visa, meta, folder or table");
  return found->second;
}

std::string to_string(DatasetFormat format) {
  for (const auto& [name, value] : format_names())
    if (value == format) return name;
  return "";
}

MaskRule mask_rule_from(const std::string& name) {
  static const std::map<std::string, MaskRule> rules = {{"auto", MaskRule::automatic},
                                                        {"required", MaskRule::required},
                                                        {"optional", MaskRule::optional},
                                                        {"none", MaskRule::none}};
  const auto found = rules.find(name);
  if (found == rules.end())
    throw UsageError("dataset: masks", "is '" + name + "', expected auto, required, optional or none");
  return found->second;
}

DatasetError::DatasetError(const std::string& where, std::vector<DatasetProblem> problems, ExitCode exit_code,
                           const std::string& advice)
    : Error(where, describe(problems, advice), exit_code), problems_(std::move(problems)) {}

namespace {

DatasetFormat format_of(const fs::path& root, const ScanOptions& options) {
  if (!options.table.empty() && options.format != DatasetFormat::table && options.format != DatasetFormat::automatic)
    throw UsageError("dataset: table", "is " + printable(options.table.string()) + ", which the layout " +
                                           to_string(options.format) + " does not take, expected the layout table");
  if (!options.table.empty()) return DatasetFormat::table;
  return options.format == DatasetFormat::automatic ? dataset_layouts::detect(root) : options.format;
}

dataset_layouts::Listing list_images(const fs::path& root, DatasetFormat format, const ScanOptions& options) {
  const bool with_masks = options.masks != MaskRule::none;
  switch (format) {
    case DatasetFormat::mvtec:
      return dataset_layouts::list_mvtec(root, with_masks);
    case DatasetFormat::visa:
      return dataset_layouts::list_visa(root, with_masks);
    case DatasetFormat::meta:
      return dataset_layouts::list_meta(root, with_masks);
    case DatasetFormat::table:
      return dataset_layouts::list_table(root, options.table, with_masks);
    default:
      return dataset_layouts::list_folder(root, with_masks);
  }
}

constexpr const char* advice_on_masks =
    "with --masks optional, anomalous images without a mask are added too and count for image metrics only";

bool masks_are_required(MaskRule rule, const std::vector<DatasetImage>& images) {
  if (rule != MaskRule::automatic) return rule == MaskRule::required;
  return std::any_of(images.begin(), images.end(), [](const DatasetImage& image) { return image.mask.has_value(); });
}

}  // namespace

Dataset scan_dataset(const fs::path& root, const ScanOptions& options, const Progress& progress) {
  const std::string where = "dataset: " + printable(root.string());
  if (!fs::is_directory(root))
    throw UsageError(where, (fs::exists(root) ? "is not a folder" : "found no such folder") +
                                std::string(", expected the folder that holds the data set"));
  Dataset dataset;
  const fs::path absolute = fs::canonical(root);
  dataset.root = absolute.string();
  if (!is_utf8(dataset.root))
    throw UsageError("dataset: " + printable(dataset.root),
                     "the path is not valid UTF-8, expected one that is: rename the folder");
  dataset.format = format_of(absolute, options);

  dataset_layouts::Listing listing = list_images(absolute, dataset.format, options);
  dataset.images = std::move(listing.images);
  sort_images(&dataset.images);
  std::vector<DatasetProblem> problems = std::move(listing.problems);
  const bool masks_are_missing = !listing.missing_masks.empty() && masks_are_required(options.masks, dataset.images);
  if (masks_are_missing) problems.insert(problems.end(), listing.missing_masks.begin(), listing.missing_masks.end());
  std::set<std::string> paths;
  for (const DatasetImage& image : dataset.images)
    if (!paths.insert(fs::path(image.path).lexically_normal().generic_string()).second)
      problems.push_back({image.path, "is listed twice"});

  ProblemCollector collector;
  std::atomic<bool> grey16 = false;
  parallel_for(
      dataset.images.size(), 0,
      [&](std::size_t i) {
        if (examine_image(absolute, i, &dataset.images[i], &collector)) grey16 = true;
      },
      progress);
  for (DatasetProblem& problem : collector.take()) problems.push_back(std::move(problem));
  if (dataset.images.empty() && problems.empty())
    problems.push_back({root.string(), "holds no images in the layout '" + to_string(dataset.format) + "', expected " +
                                           shape_of(dataset.format)});
  if (options.grey16 && !grey16 && problems.empty())
    problems.push_back({root.string(), "holds no image of 16-bit grey, expected some: their range is given", ""});
  if (!problems.empty())
    throw DatasetError(where, std::move(problems), ExitCode::usage, masks_are_missing ? advice_on_masks : "");
  dataset.classes = count_classes(dataset.images);
  dataset.grey16 = options.grey16;
  dataset.digest = dataset_digest(dataset.images, dataset.grey16);
  return dataset;
}

std::string dataset_digest(const std::vector<DatasetImage>& images, const std::optional<Grey16Range>& grey16) {
  Json content = Json::array();
  for (const DatasetImage& image : images)
    content.push_back({{"path", image.path},
                       {"class", image.class_name},
                       {"split", image.split},
                       {"label", image.label},
                       {"sha256", image.sha256},
                       {"mask_sha256", image.mask_sha256 ? Json(*image.mask_sha256) : Json()}});
  if (grey16) content.push_back({{"grey16", {grey16->low, grey16->high}}});
  return sha256_hex(canonical_json(content));
}

Json to_json(const Dataset& dataset) {
  Json json = {{"name", dataset.name},
               {"root", dataset.root},
               {"format", to_string(dataset.format)},
               {"digest", dataset.digest}};
  if (dataset.grey16) json["grey16"] = {dataset.grey16->low, dataset.grey16->high};
  json["classes"] = Json::object();
  for (const auto& [name, counts] : dataset.classes) {
    json["classes"][name] = {{"train", counts.train}, {"test", counts.test}, {"anomalous", counts.anomalous}};
    if (counts.unmasked > 0) json["classes"][name]["unmasked"] = counts.unmasked;
  }
  json["images"] = Json::array();
  for (const DatasetImage& image : dataset.images) {
    json["images"].push_back({{"path", image.path},
                              {"mask", image.mask ? Json(*image.mask) : Json()},
                              {"class", image.class_name},
                              {"split", image.split},
                              {"label", image.label},
                              {"defect", image.defect},
                              {"width", image.width},
                              {"height", image.height},
                              {"sha256", image.sha256},
                              {"mask_sha256", image.mask_sha256 ? Json(*image.mask_sha256) : Json()}});
    if (!image.pixels_sha256.empty()) json["images"].back()["pixels_sha256"] = image.pixels_sha256;
  }
  return json;
}

namespace {

// Reads keys of one JSON object; errors name `where` and the key.
class KeyReader {
 public:
  KeyReader(const Json& object, std::string where) : object_(object), where_(std::move(where)) {
    if (!object.is_object()) throw Error(where_, "is not an object");
  }

  const Json& at(const char* key) const {
    const auto found = object_.find(key);
    if (found == object_.end()) throw Error(where_ + ": " + key, "is missing");
    return *found;
  }
  std::string text(const char* key) const {
    if (!at(key).is_string()) fail(key, "text");
    return at(key).get<std::string>();
  }
  std::optional<std::string> optional_text(const char* key) const {
    return at(key).is_null() ? std::nullopt : std::optional(text(key));
  }
  int number(const char* key, int low, int high) const {
    const Json& value = at(key);
    if (!value.is_number_integer() || value < low || value > high)
      fail(key, "an integer from " + std::to_string(low) + " to " + std::to_string(high));
    return value.get<int>();
  }
  [[noreturn]] void fail(const char* key, const std::string& expected) const {
    throw Error(where_ + ": " + key, "is " + at(key).dump(-1, ' ', true, Json::error_handler_t::replace).substr(0, 80) +
                                         ", expected " + expected);
  }

 private:
  const Json& object_;
  std::string where_;
};

Grey16Range grey16_from_json(const KeyReader& keys) {
  const Json& range = keys.at("grey16");
  const auto sample = [&](std::size_t i) {
    return range.is_array() && range.size() == 2 && range[i].is_number_integer() && range[i] >= 0 && range[i] <= 65535
               ? range[i].get<int>()
               : -1;
  };
  if (sample(0) < 0 || sample(0) >= sample(1)) keys.fail("grey16", "[LOW, HIGH] with 0 <= LOW < HIGH <= 65535");
  return {.low = sample(0), .high = sample(1)};
}

DatasetImage image_from_json(const Json& json, const std::string& where) {
  const KeyReader keys(json, where);
  DatasetImage image;
  image.path = keys.text("path");
  image.mask = keys.optional_text("mask");
  image.class_name = keys.text("class");
  image.split = keys.text("split");
  image.label = keys.number("label", 0, 1);
  image.defect = keys.text("defect");
  image.width = keys.number("width", 1, static_cast<int>(max_image_pixels));
  image.height = keys.number("height", 1, static_cast<int>(max_image_pixels));
  image.sha256 = keys.text("sha256");
  image.mask_sha256 = keys.optional_text("mask_sha256");
  if (json.contains("pixels_sha256")) image.pixels_sha256 = keys.text("pixels_sha256");
  if (!dataset_layouts::path_fault(image.path).empty()) keys.fail("path", "a path below the root");
  if (image.mask && !dataset_layouts::path_fault(*image.mask).empty()) keys.fail("mask", "a path below the root");
  if (image.split != "train" && image.split != "test") keys.fail("split", "train or test");
  if (image.mask.has_value() != image.mask_sha256.has_value())
    keys.fail("mask_sha256", "a checksum where there is a mask");
  return image;
}

}  // namespace

Dataset dataset_from_json(const Json& json, const std::string& where) {
  const KeyReader keys(json, where);
  Dataset dataset;
  dataset.name = keys.text("name");
  dataset.root = keys.text("root");
  dataset.digest = keys.text("digest");
  const std::string format = keys.text("format");
  if (!format_names().contains(format) || format == "auto") keys.fail("format", "mvtec, visa, meta, folder or table");
  dataset.format = dataset_format_from(format);
  if (json.contains("grey16")) dataset.grey16 = grey16_from_json(keys);
  const Json& images = keys.at("images");
  if (!images.is_array()) keys.fail("images", "a list");
  for (std::size_t i = 0; i < images.size(); ++i)
    dataset.images.push_back(image_from_json(images[i], where + ": images[" + std::to_string(i) + "]"));
  dataset.classes = count_classes(dataset.images);
  if (dataset_digest(dataset.images, dataset.grey16) != dataset.digest)
    throw Error(where + ": digest", "does not fit the images listed: the file was changed; add the data set again");
  return dataset;
}

AddedDataset add_dataset(const fs::path& workspace, const std::string& name, const fs::path& root,
                         const ScanOptions& options, const Progress& progress) {
  check_name(name);
  AddedDataset added{scan_dataset(root, options, progress), false};
  added.dataset.name = name;
  const fs::path file = WorkspaceLayout(workspace).dataset_file(name);
  std::error_code error;
  fs::create_directories(file.parent_path(), error);
  if (error) throw Error("dataset: " + file.parent_path().string(), "folder cannot be created: " + error.message());
  if (create_file_exclusively(file, to_json(added.dataset).dump(2) + "\n")) return added;
  const Dataset before = load_dataset(workspace, name);
  if (before.digest != added.dataset.digest)
    throw UsageError("dataset: " + name, "is there already with other content (" + before.root + ", digest " +
                                             before.digest.substr(0, 12) + "; here " +
                                             added.dataset.digest.substr(0, 12) + "): choose another name");
  added.existed = true;
  if (const Json now = to_json(added.dataset); now != to_json(before)) write_json(file, now);
  return added;
}

namespace {

fs::path file_of(const fs::path& workspace, const std::string& name) {
  check_name(name);
  const fs::path file = WorkspaceLayout(workspace).dataset_file(name);
  if (fs::exists(file)) return file;
  const std::vector<std::string> names = list_datasets(workspace);
  throw UsageError("dataset: " + name, "is not in workspace " + workspace.string() + ", which has " + joined(names) +
                                           did_you_mean(name, names));
}

}  // namespace

Dataset load_dataset(const fs::path& workspace, const std::string& name) {
  const fs::path file = file_of(workspace, name);
  return dataset_from_json(read_json(file), "dataset: " + file.string());
}

void remove_dataset(const fs::path& workspace, const std::string& name) {
  const fs::path file = file_of(workspace, name);
  std::error_code error;
  fs::remove(file, error);
  if (error) throw Error("dataset: " + file.string(), "cannot be removed: " + error.message());
}

std::vector<std::string> list_datasets(const fs::path& workspace) {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(WorkspaceLayout(workspace).datasets_folder(), error))
    if (entry.path().extension() == ".json" && entry.path().filename().string()[0] != '.')
      names.push_back(entry.path().stem().string());
  std::sort(names.begin(), names.end());
  return names;
}

namespace {

// Full decode and comparison of one file with what was added.
void verify_file(const fs::path& root, const std::string& path, const std::string& sha256, ImageSize size,
                 std::size_t order, ProblemCollector* problems) {
  const std::string file = (root / path).string();
  try {
    const std::string bytes = read_image_bytes(file);
    if (sha256_hex(bytes) != sha256) problems->add(order, path, "has changed since it was added (SHA-256 differs)");
    const Image image = decode_image(bytes, file);
    if (ImageSize{image.width, image.height} != size)
      problems->add(order, path,
                    "is " + size_text({image.width, image.height}) + " pixels, expected " + size_text(size));
  } catch (const Error& error) {
    problems->add(order, path, reason_of(error, file));
  }
}

}  // namespace

std::vector<DatasetProblem> verify_dataset(const Dataset& dataset, const Progress& progress) {
  ProblemCollector problems;
  const fs::path root = dataset.root;
  if (!fs::is_directory(root))
    return {{dataset.root, "is not a folder: was it moved? (add it again under the same name)"}};
  parallel_for(
      dataset.images.size(), 0,
      [&](std::size_t i) {
        const DatasetImage& image = dataset.images[i];
        const ImageSize size{image.width, image.height};
        verify_file(root, image.path, image.sha256, size, i, &problems);
        if (image.mask) verify_file(root, *image.mask, *image.mask_sha256, size, i, &problems);
      },
      progress);
  return problems.take();
}

}  // namespace filo
