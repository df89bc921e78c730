#include <chrono>
#include <cmath>
#include <ctime>
#include <fstream>
#include <vector>

#include "base/error.hpp"
#include "base/random.hpp"
#include "cluster/resource_use.hpp"
#include "settings/metrics.hpp"
#include "trainer/benchmarks.hpp"
#include "trainer/pixel_metrics.hpp"

namespace filo {
namespace {

// Smooth waves, higher where the defect is, and a little noise: as maps are, neighbours are alike and no two are equal.
// Every third image is normal; a defect is a disc of 1 to 6 % of the image.
struct BenchImage {
  std::vector<float> map;
  std::vector<std::uint8_t> mask;
};

BenchImage bench_image(int side, std::size_t number) {
  Random random(0, "bench metrics", number);
  BenchImage image;
  const double radius = number % 3 == 0 ? 0 : side * random.uniform(0.06, 0.14);
  const double x0 = side * random.uniform(0.2, 0.8), y0 = side * random.uniform(0.2, 0.8);
  const double fx = random.uniform(2, 9), fy = random.uniform(2, 9), found = random.uniform(0.1, 0.8);
  for (int y = 0; y < side; ++y)
    for (int x = 0; x < side; ++x) {
      const double distance = std::hypot(x - x0, y - y0);
      const double wave = 0.1 * (2 + std::sin(fx * x / side) + std::cos(fy * y / side)) + 0.02 * random.uniform();
      const double bump = radius > 0 ? found * std::exp(-distance * distance / (2 * radius * radius)) : 0;
      image.map.push_back(static_cast<float>(wave + bump));
      image.mask.push_back(distance < radius ? 1 : 0);
    }
  return image;
}

template <typename Value>
void write_values(std::ofstream& file, const std::vector<Value>& values) {
  file.write(reinterpret_cast<const char*>(values.data()), static_cast<std::streamsize>(values.size() * sizeof(Value)));
}

struct Seconds {
  double wall = 0;
  double processor = 0;  // of all threads
};

template <typename Work>
Seconds seconds_of(const Work& work) {
  const auto start = std::chrono::steady_clock::now();
  const std::clock_t processor = std::clock();
  work();
  return {.wall = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(),
          .processor = static_cast<double>(std::clock() - processor) / CLOCKS_PER_SEC};
}

AnomalyMaps bench_maps(const BenchMetricsOptions& options, std::vector<std::uint8_t>& labels) {
  const auto side = static_cast<std::size_t>(options.side);
  AnomalyMaps maps(options.images, side, side, {.memory_bytes = options.memory_bytes, .folder = options.folder});
  std::ofstream scores, masks;
  if (!options.save.empty()) {
    std::filesystem::create_directories(options.save);
    scores.open(options.save / "maps.f32", std::ios::binary);
    masks.open(options.save / "masks.u8", std::ios::binary);
  }
  for (std::size_t i = 0; i < options.images; ++i) {
    const BenchImage image = bench_image(options.side, i);
    maps.put(i, image.map, image.mask, "image " + std::to_string(i));
    labels.push_back(maps.defect_pixels(i) > 0 ? 1 : 0);
    if (options.save.empty()) continue;
    write_values(scores, image.map);
    write_values(masks, image.mask);
  }
  scores.close();
  masks.close();
  if (!options.save.empty() && (!scores || !masks))
    throw Error("bench metrics: " + options.save.string(), "cannot be written");
  return maps;
}

}  // namespace

Json bench_metrics(const BenchMetricsOptions& options) {
  std::vector<std::uint8_t> labels;
  const AnomalyMaps maps = bench_maps(options, labels);
  const std::vector<double> limits = {0.3, 0.05};
  PixelMetricsResult result;
  const Seconds exact =
      seconds_of([&] { result = pixel_metrics(maps, {.fpr_limits = limits, .threads = options.threads}); });
  const Seconds all = seconds_of([&] {
    const Resamples resamples = draw_resamples(labels, "bench");
    result = pixel_metrics(maps, {.fpr_limits = limits, .threads = options.threads, .resamples = &resamples});
  });
  const auto to_json = [&](const PixelMetrics& found) {
    Json json = {
        {"pixel_auroc", found.metrics.auroc}, {"pixel_ap", found.metrics.ap}, {"pixel_f1_max", found.metrics.f1_max}};
    for (std::size_t i = 0; i < limits.size(); ++i) json[aupro_name(limits[i])] = found.aupro[i];
    return json;
  };
  return {{"images", options.images},
          {"side", options.side},
          {"threads", options.threads},
          {"memory_limit_bytes", options.memory_bytes},
          {"disk_bytes", AnomalyMaps::spilled_bytes(options.images, maps.area(), options.memory_bytes)},
          {"passes", result.passes},
          {"seconds", exact.wall},
          {"cpu_seconds", exact.processor},
          {"seconds_with_intervals", all.wall},
          {"cpu_seconds_with_intervals", all.processor},
          {"peak_rss_bytes", resource_use_of_this_process().memory_bytes},
          {"metrics", to_json(result.exact)},
          {"binned", to_json(result.binned)}};
}

}  // namespace filo
