// What an evaluation finds of one class of the test data set, and what is made of it: metrics and heat maps.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/json.hpp"
#include "data/images/image.hpp"
#include "trainer/anomaly_maps.hpp"

namespace filo {

// N images; H and W the size of their maps in pixels.
struct ImageResults {
  ImageSize size;
  std::vector<std::string> images;  // paths relative to the data set's root
  std::vector<float> scores;
  std::vector<std::uint8_t> labels;       // 1: anomalous
  std::vector<std::string> defects;       // types; "good" where normal
  std::vector<std::uint8_t> masked;       // 0: which pixels are anomalous is not known, its mask is all 0
  std::vector<float> maps;                // [N, H, W]
  std::vector<std::uint8_t> masks;        // [N, H, W], 0 or 1
  Json interpretations = Json::object();  // image -> interpretation()
};

// Some of a class's images, as one rank sends them to the rank that makes the class's metrics. `places`: of the images
// in the class. Throws Error where the bytes are not of this form.
struct ClassPart {
  std::vector<std::size_t> places;
  ImageResults result;
};
std::string to_bytes(const ClassPart& part);
ClassPart class_part_from_bytes(const std::string& bytes);

// All images of a class. Movable.
struct ClassResult {
  std::string name;
  ImageSize size;  // of the maps
  std::vector<std::string> images;
  std::vector<float> scores;
  std::vector<std::uint8_t> labels;
  std::vector<std::string> defects;
  std::vector<std::uint8_t> masked;
  AnomalyMaps maps;  // and masks
  Json interpretations = Json::object();
};

// A class of `images` images, all of which are still to come; place() puts a part's where they belong. Both throw Error
// as AnomalyMaps does, place() also on a score that is NaN.
ClassResult empty_class(const std::string& name, std::size_t images, ImageSize size, const MapsStorage& storage);
void place(ClassResult& whole, const ClassPart& part);

// Pixel metrics are of the images that are `masked`; "without_mask": how many are not, where there are some.
struct ClassMetrics {
  // {"image_auroc", ..., "aupro", "images": N, "intervals": {METRIC: [low, high]}}: a metric that is undefined is null,
  // has no interval, and "reasons": {METRIC: "no anomalous image"} says why; without one there are no reasons.
  Json values;
  Json resamples;  // {METRIC: one value for each resample of the class's images}
};
ClassMetrics metrics_of(const ClassResult& result, const std::vector<double>& fpr_limits, int threads);

// {TYPE: {"image_auroc", "pixel_auroc", "aupro", ..., "images": N}} of every type of defect: its N images against all
// normal ones of the class. What is undefined is null and has its reason as above. `of_class`: metrics_of().values.
Json defect_metrics_of(const ClassResult& result, const Json& of_class, const std::vector<double>& fpr_limits,
                       int threads);

// The mean over classes of every metric, with "intervals" and "reasons" as above; a class where a metric is undefined
// is left out of its mean. `classes`: {NAME: values}; `resamples`: {NAME: resamples}, of each class its own draws, so
// that a mean's interval is that of the means over one draw of every class.
Json mean_over_classes(const Json& classes, const Json& resamples);

// What the metrics of the largest of these classes will take of one rank's memory and of the disk. Throws Error where
// storage.folder's disk has not as much room.
struct ClassSize {
  std::size_t images = 0;
  ImageSize size;  // of the maps
};
struct MetricsNeed {
  std::size_t images = 0;  // of that class
  std::size_t memory_bytes = 0, disk_bytes = 0;
};
MetricsNeed need_of_largest(const std::vector<ClassSize>& classes, const MapsStorage& storage, int threads);

// PNG files by name, "worst-1-CLASS_test_crack_000.png", of the images that choose_heat_maps() (heat_map_choice.hpp)
// takes: the photo with the true defect outlined, beside it the photo under its anomaly map, all maps of the class on
// one scale. `root`, `grey16`: of the data set.
std::map<std::string, std::string> heat_maps_of(const ClassResult& result, const std::filesystem::path& root, int count,
                                                const std::optional<Grey16Range>& grey16 = std::nullopt);

}  // namespace filo
