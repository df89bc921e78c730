// Generated data sets: two families of drawn products with defects and exact masks, for demos and tests without any
// data.
//
// Family "parts", in MVTec-AD's layout: washer, gear, bracket, dial. Family "boards", in VisA's: relay_board, keypad,
// display, chip_tray. Other products, other scenes, the same seven kinds of defects: scratch, spot, stain, dent, crack,
// missing, misplaced. Every image has its own camera (rotation, shift, scale, exposure, noise), lighting, textures, and
// harmless clutter (dust, hairlines, smudges, print). The same options give the same pixels.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "data/images/image.hpp"
#include "data/parallel.hpp"

namespace filo {

struct GenerateOptions {
  std::string family;                // "parts" or "boards"
  std::filesystem::path out;         // the data set's folder
  std::vector<std::string> classes;  // empty: all of the family
  std::uint64_t seed = 0;
  int size = 280;      // pixels, width and height, 32..4096
  int train = 12;      // normal images in the train split, per class
  int good = 14;       // normal images in the test split, per class
  int defective = 14;  // anomalous images in the test split, per class; the kinds take turns
};

struct GenerateResult {
  std::size_t images = 0;
  std::vector<std::string> classes;
  bool existed = false;  // the folder was there, made with the same options
};

// Draws and writes the whole data set on a few threads; the folder appears when it is complete, or not at all. A folder
// that these options made before is left as it is; one with any other content is refused. Throws UsageError for wrong
// options.
GenerateResult generate_dataset(const GenerateOptions& options, const Progress& progress = nullptr);

struct GeneratedImage {
  Image image;  // RGB
  Image mask;   // grey, 255 on the defect; all 0 for "good"
};

// One image in memory. `defect`: "good" or a kind of defect. Throws UsageError for unknown names.
GeneratedImage generate_image(const std::string& class_name, const std::string& defect, std::uint64_t seed,
                              std::uint64_t index, int size);

const std::vector<std::string>& generated_families();                          // parts, boards
const std::vector<std::string>& generated_classes(const std::string& family);  // throws UsageError
const std::vector<std::string>& generated_defects();

}  // namespace filo
