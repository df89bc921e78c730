#include <algorithm>
#include <unordered_set>

#include "base/error.hpp"
#include "base/files.hpp"
#include "base/hash.hpp"
#include "data/boxes.hpp"
#include "data/datasets/dataset.hpp"
#include "trainer/stage_inputs.hpp"
#include "trainer/stages.hpp"

namespace filo {
namespace {

constexpr std::size_t names_shown = 3;

// A box for an image that the data set does not have is a misspelt path whose image would quietly go without.
void expect_images_of(const Dataset& dataset, const std::map<std::string, std::vector<Box>>& boxes,
                      const std::string& path) {
  std::unordered_set<std::string> known;
  for (const DatasetImage& image : dataset.images) known.insert(image.path);
  std::vector<std::string> unknown;
  for (const auto& [image, list] : boxes)
    if (!known.contains(image)) unknown.push_back(image);
  if (unknown.empty()) return;
  std::string names;
  for (std::size_t i = 0; i < std::min(unknown.size(), names_shown); ++i) names += (i > 0 ? ", " : "") + unknown[i];
  throw UsageError("boxes: " + path, "found " + std::to_string(unknown.size()) + " images that the data set " +
                                         dataset.name + " does not have (" + names +
                                         (unknown.size() > names_shown ? ", ..." : "") +
                                         "), expected paths relative to " + dataset.root);
}

}  // namespace

void run_boxes(Stage& stage) {
  const BoxesSpec spec = boxes_spec_from_json(stage.spec(), stage.spec_file());
  if (!stage.is_root()) return stage.finish({}, {});
  const Dataset dataset = load_dataset_of(stage, spec.dataset);
  expect_planned("boxes: " + spec.boxes.path, "its digest", sha256_hex_of_file(spec.boxes.path), spec.boxes.digest);
  const auto boxes = read_boxes(spec.boxes.path);
  expect_images_of(dataset, boxes, spec.boxes.path);
  std::size_t count = 0, phrases = 0;
  for (const auto& [image, list] : boxes) {
    count += list.size();
    for (const Box& box : list) phrases += box.phrase.has_value();
  }
  const std::string file = stage.workspace().boxes_file(stage.key()).filename().string();
  write_json(stage.output(file), to_json(boxes));
  stage.finish({{"images", boxes.size()}, {"boxes", count}, {"phrases", phrases}}, {{artifact_name::boxes, file}});
}

}  // namespace filo
