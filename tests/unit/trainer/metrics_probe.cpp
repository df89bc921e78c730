// metrics_probe SCORES LABELS HEIGHT WIDTH COUNT [LIMIT [MEMORY]]: raw float32 scores, u8 labels; prints the pixels'
// metrics as JSON, with MEMORY bytes and with as much as they want, and 95 % intervals over the images.
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <vector>

#include "base/error.hpp"
#include "base/files.hpp"
#include "base/json.hpp"
#include "trainer/metrics.hpp"
#include "trainer/pixel_metrics.hpp"

namespace filo {
namespace {

Json to_json(const PixelMetrics& metrics) {
  return {{"auroc", metrics.metrics.auroc},
          {"ap", metrics.metrics.ap},
          {"f1_max", metrics.metrics.f1_max},
          {"aupro", metrics.aupro.front()}};
}

Json interval(const std::vector<PixelMetrics>& resampled, const char* name) {
  std::vector<double> values;
  for (const PixelMetrics& metrics : resampled) {
    const Json value = to_json(metrics).at(name);
    values.push_back(value.get<double>());
  }
  const auto found = interval_95(std::move(values));
  return found ? Json{found->first, found->second} : Json();
}

int run(int argc, char** argv) {
  const std::string score_bytes = read_file(argv[1]), label_bytes = read_file(argv[2]);
  std::vector<float> scores(score_bytes.size() / sizeof(float));
  std::memcpy(scores.data(), score_bytes.data(), scores.size() * sizeof(float));
  const std::vector<std::uint8_t> labels(label_bytes.begin(), label_bytes.end());
  MapsStorage storage{.folder = std::filesystem::path(argv[1]).parent_path()};
  if (argc > 7) storage.memory_bytes = std::stoul(argv[7]);
  const std::size_t height = std::stoul(argv[3]), width = std::stoul(argv[4]), images = std::stoul(argv[5]);
  AnomalyMaps maps(images, height, width, storage);
  std::vector<std::uint8_t> anomalous;
  for (std::size_t i = 0; i < images; ++i) {
    const std::size_t first = i * maps.area();
    maps.put(i, std::span(scores).subspan(first, maps.area()), std::span(labels).subspan(first, maps.area()), "image");
    anomalous.push_back(maps.defect_pixels(i) > 0 ? 1 : 0);
  }
  const Resamples resamples = draw_resamples(anomalous, "probe");
  const PixelMetricsResult result =
      pixel_metrics(maps, {.fpr_limits = {argc > 6 ? std::atof(argv[6]) : 0.3}, .threads = 2, .resamples = &resamples});
  Json json = to_json(result.exact);
  json["passes"] = result.passes;
  json["binned"] = to_json(result.binned);
  for (const char* name : {"auroc", "ap", "f1_max", "aupro"})
    json["intervals"][name] = interval(result.resampled, name);
  const Metrics of_list = binary_metrics(scores, labels);
  json["of_list"] = {{"auroc", of_list.auroc}, {"ap", of_list.ap}, {"f1_max", of_list.f1_max}};
  std::cout << json << "\n";
  return 0;
}

}  // namespace
}  // namespace filo

int main(int argc, char** argv) {
  if (argc < 6) return 2;
  try {
    return filo::run(argc, argv);
  } catch (const filo::Error& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
