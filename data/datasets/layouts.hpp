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
};

DatasetFormat detect(const std::filesystem::path& root);

Listing list_mvtec(const std::filesystem::path& root);
Listing list_visa(const std::filesystem::path& root);
Listing list_meta(const std::filesystem::path& root);
Listing list_folder(const std::filesystem::path& root);

// Why a path of a listing cannot be used ("" when it can): empty, absolute, leads outside the root, not UTF-8.
std::string path_fault(const std::string& path);

}  // namespace filo::dataset_layouts
