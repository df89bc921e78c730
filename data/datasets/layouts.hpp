// The listings behind scan_dataset: which images a layout names. Nothing here opens an image. Not for use elsewhere.
#pragma once

#include <filesystem>
#include <vector>

#include "data/datasets/dataset.hpp"

namespace filo::dataset_layouts {

// What a layout names (path, mask, class_name, split, label, defect; the rest is empty), and what is wrong with it.
struct Listing {
  std::vector<DatasetImage> images;
  std::vector<DatasetProblem> problems;
  std::vector<DatasetProblem> missing_masks;  // of the anomalous `images` without one: wrong where masks are required
};

DatasetFormat detect(const std::filesystem::path& root);

// Without `with_masks` every mask is passed over, and so is what is wrong with it.
Listing list_mvtec(const std::filesystem::path& root, bool with_masks);
Listing list_visa(const std::filesystem::path& root, bool with_masks);
Listing list_meta(const std::filesystem::path& root, bool with_masks);
Listing list_folder(const std::filesystem::path& root, bool with_masks);
// `table`: "" for the only *.csv or *.jsonl in the root.
Listing list_table(const std::filesystem::path& root, const std::filesystem::path& table, bool with_masks);

// Why a path of a listing cannot be used ("" when it can): empty, absolute, leads outside the root, not UTF-8.
std::string path_fault(const std::string& path);

}  // namespace filo::dataset_layouts
