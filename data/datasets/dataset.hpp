// Data sets: what lies in a folder, as one list of images with classes, splits, labels and masks.
//
// Layouts (paths below the data set's root):
//   mvtec   CLASS/train/good/*, CLASS/test/good/*, CLASS/test/DEFECT/*, CLASS/ground_truth/DEFECT/NAME_mask.*
//   visa    split_csv/1cls.csv with the columns object, split, label (normal | anomaly), image, mask
//   meta    meta.json: {"train" | "test": {CLASS: [{img_path, mask_path, cls_name, specie_name, anomaly}]}}
//   folder  CLASS/good/* and CLASS/DEFECT/* (split "test"), CLASS/train/* (optional: normal images for few-shot
//   memories);
//           masks in CLASS/masks/DEFECT/ or masks/CLASS/DEFECT/, named NAME.* or NAME_mask.*
//   table   a CSV or JSON lines file with the columns image, label (0, 1, normal, anomaly, ...) and, where wanted,
//   mask,
//           class ("object"), split ("test") and defect ("anomaly")
// Images are *.png, *.jpg, *.jpeg, *.bmp, *.tif, *.tiff in any case; hidden files, Thumbs.db and desktop.ini are passed
// over. A mask is as large as its image (after its EXIF orientation). Which anomalous images need one: MaskRule.
#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "base/json.hpp"
#include "data/images/image.hpp"
#include "data/parallel.hpp"

namespace filo {

enum class DatasetFormat { automatic, mvtec, visa, meta, folder, table };

// "auto", "mvtec", ...; throws UsageError that lists the names.
DatasetFormat dataset_format_from(const std::string& name);
std::string to_string(DatasetFormat format);

// Which anomalous images need a mask.
enum class MaskRule {
  automatic,  // all where any of the data set has one, else none
  required,   // all
  optional,   // none; those that are there are used
  none        // none; those that are there are passed over
};

// "auto", "required", ...; throws UsageError that lists the names.
MaskRule mask_rule_from(const std::string& name);

struct DatasetImage {
  std::string path;                 // relative to the root, '/' between folders
  std::optional<std::string> mask;  // relative to the root; a normal image has none, an anomalous one may
  std::string class_name;
  std::string split;  // "train" or "test"
  int label = 0;      // 1: anomalous
  std::string defect = "good";
  int width = 0;  // pixels, after the EXIF orientation
  int height = 0;
  std::string sha256;  // of the file
  // Of the decoded picture (to_rgb(), its size first), whatever file format it lies in; "" in data sets that versions
  // without it have added.
  std::string pixels_sha256;
  std::optional<std::string> mask_sha256;
};

struct ClassCounts {
  int train = 0;
  int test = 0;
  int anomalous = 0;  // in either split
  int unmasked = 0;   // of the anomalous: those without a mask
};

struct Dataset {
  std::string name;
  std::string root;  // absolute
  DatasetFormat format = DatasetFormat::mvtec;
  std::string digest;  // dataset_digest(images)
  std::map<std::string, ClassCounts> classes;
  std::vector<DatasetImage> images;   // sorted by class, split, path
  std::optional<Grey16Range> grey16;  // how to decode its images (decode_image()); unset: the high byte
};

struct DatasetProblem {
  std::string path;  // of the file, or "FILE:LINE" / "FILE: key" inside a listing
  std::string reason;
  std::string kind = "";  // the reason without names of files; "": the reason has none
};

// All that is wrong with a folder. The message has a line for each problem; of more than three of one kind it has their
// number and the first three. `advice`, where there is any, is its last line.
class DatasetError : public Error {
 public:
  DatasetError(const std::string& where, std::vector<DatasetProblem> problems, ExitCode exit_code = ExitCode::usage,
               const std::string& advice = "");
  const std::vector<DatasetProblem>& problems() const { return problems_; }

 private:
  std::vector<DatasetProblem> problems_;
};

struct ScanOptions {
  DatasetFormat format = DatasetFormat::automatic;  // that is table where there is one
  std::filesystem::path table = "";                 // of the layout table; "": the only *.csv or *.jsonl in the root
  MaskRule masks = MaskRule::automatic;
  std::optional<Grey16Range> grey16 = std::nullopt;
};

// Reads the folder, decodes all images, reads the headers of all masks, and hashes every file, on a few threads.
// "auto" takes the first of meta (meta.json is there), visa, mvtec, folder that fits, and table where options.table is
// given. The result has no name.
// Throws DatasetError with every problem at once: missing image or mask, unreadable header, mask of another size, empty
// class, a range of 16-bit grey without such an image, a line of the listing that cannot be understood, an image listed
// twice, a path that leads outside the root.
Dataset scan_dataset(const std::filesystem::path& root, const ScanOptions& options, const Progress& progress = nullptr);

// SHA-256 over the canonical JSON of (path, class, split, label, sha256, mask's sha256) of all images, and of `grey16`
// where it is set: independent of the data set's root and name and of the masks' paths.
std::string dataset_digest(const std::vector<DatasetImage>& images,
                           const std::optional<Grey16Range>& grey16 = std::nullopt);

// docs/architecture.md, "Datasets". The inverse checks every key, path and the digest; throws Error naming `where` and
// the key.
Json to_json(const Dataset& dataset);
Dataset dataset_from_json(const Json& json, const std::string& where);

struct AddedDataset {
  Dataset dataset;
  bool existed = false;  // the same content was there under this name
};

// scan_dataset, then WORKSPACE/datasets/NAME.json, atomically. The same content again changes nothing but the root
// where the folder has moved; other content under the same name is refused (UsageError). Names: letters, digits and ._-
// .
AddedDataset add_dataset(const std::filesystem::path& workspace, const std::string& name,
                         const std::filesystem::path& root, const ScanOptions& options,
                         const Progress& progress = nullptr);

// Throws UsageError when there is none of this name (naming those there are), Error when its file is broken.
Dataset load_dataset(const std::filesystem::path& workspace, const std::string& name);

// The names, sorted.
std::vector<std::string> list_datasets(const std::filesystem::path& workspace);

// Takes WORKSPACE/datasets/NAME.json away, and nothing else: the images stay. Throws UsageError as load_dataset() does.
// Whether an experiment still needs it is the caller's to know.
void remove_dataset(const std::filesystem::path& workspace, const std::string& name);

// Decodes every image and mask in full and compares checksums and sizes with what was added. Empty: all is as it was.
std::vector<DatasetProblem> verify_dataset(const Dataset& dataset, const Progress& progress = nullptr);

}  // namespace filo
