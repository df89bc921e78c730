// A data set at a glance: its images by class, split and defect, and a picture of samples.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "data/datasets/dataset.hpp"
#include "data/images/image.hpp"

namespace filo {

// The images of one class, split and kind of defect. They belong to the data set.
struct DatasetGroup {
  std::string class_name;
  std::string split;
  int label = 0;
  std::string defect;
  std::vector<const DatasetImage*> images;         // in the data set's order
  std::size_t masks = 0;                           // how many of them have one
  std::map<std::pair<int, int>, int> size_counts;  // (width, height) in pixels: how many
};

// By class, split (test before train), label and defect.
std::vector<DatasetGroup> groups_of(const Dataset& dataset);

// A row for each group of the data set, in their order: up to eight images, evenly chosen, scaled to fit into 160 x 160
// pixels, masks outlined. Throws Error where a file cannot be read, or where there are more than 10,000 groups.
Image contact_sheet(const std::vector<DatasetGroup>& groups, const Dataset& dataset,
                    const Progress& progress = nullptr);

}  // namespace filo
