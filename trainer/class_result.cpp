#include "trainer/class_result.hpp"

#include <algorithm>
#include <cmath>
#include <span>

#include "data/images/image.hpp"
#include "settings/metrics.hpp"
#include "trainer/metrics.hpp"

namespace filo {
namespace {

Json metric(double value) { return std::isnan(value) ? Json() : Json(value); }

Image heat_map_panel(const Image& photo, const std::vector<float>& map, std::span<const std::uint8_t> mask, int size) {
  Image outline(size, size, 1);
  std::copy(mask.begin(), mask.end(), outline.pixels.begin());
  return join_horizontally({draw_contour(to_rgb(photo), outline, {.red = 0, .green = 230, .blue = 118}),
                            overlay_heat_map(to_rgb(photo), map.data(), size, size)});
}

}  // namespace

Json metrics_of(const ClassResult& result) {
  const Metrics image = binary_metrics(result.scores, result.labels);
  const Metrics pixel = binary_metrics(result.maps, result.masks);
  const auto side = static_cast<std::size_t>(result.size);
  return {{"image_auroc", metric(image.auroc)},
          {"image_ap", metric(image.ap)},
          {"image_f1_max", metric(image.f1_max)},
          {"pixel_auroc", metric(pixel.auroc)},
          {"pixel_ap", metric(pixel.ap)},
          {"pixel_f1_max", metric(pixel.f1_max)},
          {"aupro", metric(aupro(result.maps, result.masks, side, side, result.images.size()))},
          {"images", result.images.size()}};
}

Json mean_over_classes(const Json& classes) {
  Json means = Json::object();
  for (const std::string& name : metric_names()) {
    double sum = 0;
    int count = 0;
    for (const auto& [class_name, values] : classes.items())
      if (values.at(name).is_number()) {
        sum += values.at(name).get<double>();
        ++count;
      }
    means[name] = count > 0 ? Json(sum / count) : Json();
  }
  return means;
}

void write_heat_maps(const std::filesystem::path& folder, const ClassResult& result, const std::filesystem::path& root,
                     int count) {
  const std::size_t area = static_cast<std::size_t>(result.size) * static_cast<std::size_t>(result.size);
  const auto [low, high] = std::minmax_element(result.maps.begin(), result.maps.end());
  const float range = std::max(*high - *low, 1e-12f);
  int written = 0;
  for (std::size_t i = 0; i < result.images.size() && written < count; ++i) {
    if (result.labels[i] == 0) continue;
    std::vector<float> scaled(area);
    std::transform(result.maps.begin() + static_cast<std::ptrdiff_t>(i * area),
                   result.maps.begin() + static_cast<std::ptrdiff_t>((i + 1) * area), scaled.begin(),
                   [&](float value) { return (value - *low) / range; });
    const Image photo = decode_image(root / result.images[i]);
    std::string file = result.images[i];
    std::replace(file.begin(), file.end(), '/', '_');
    std::filesystem::create_directories(folder);
    write_png(folder / (std::filesystem::path(file).stem().string() + ".png"),
              heat_map_panel(photo, scaled, std::span(result.masks).subspan(i * area, area), result.size));
    ++written;
  }
}

}  // namespace filo
