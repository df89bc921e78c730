#include "trainer/class_result.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <span>

#include "base/error.hpp"
#include "data/images/image.hpp"
#include "settings/metrics.hpp"
#include "trainer/metrics.hpp"

namespace filo {
namespace {

Json metric(double value) { return std::isnan(value) ? Json() : Json(value); }

// The bytes of a part: the length of its header, the header (JSON), its maps, its masks.
constexpr const char* where = "evaluate: a rank's part of a class";

template <typename Value>
void append_bytes(std::string& bytes, const std::vector<Value>& values) {
  bytes.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(Value));
}

template <typename Value>
std::vector<Value> take_bytes(std::string_view& bytes, std::size_t count) {
  if (bytes.size() < count * sizeof(Value)) throw Error(where, "is cut short");
  std::vector<Value> values(count);
  std::memcpy(values.data(), bytes.data(), count * sizeof(Value));
  bytes.remove_prefix(count * sizeof(Value));
  return values;
}

std::size_t area_of(const ClassResult& result) {
  return static_cast<std::size_t>(result.size) * static_cast<std::size_t>(result.size);
}

Image heat_map_panel(const Image& photo, const std::vector<float>& map, std::span<const std::uint8_t> mask, int size) {
  Image outline(size, size, 1);
  std::copy(mask.begin(), mask.end(), outline.pixels.begin());
  return join_horizontally({draw_contour(to_rgb(photo), outline, {.red = 0, .green = 230, .blue = 118}),
                            overlay_heat_map(to_rgb(photo), map.data(), size, size)});
}

}  // namespace

std::string to_bytes(const ClassPart& part) {
  const ClassResult& result = part.result;
  const std::string header =
      Json{{"size", result.size},     {"places", part.places},   {"images", result.images},
           {"scores", result.scores}, {"labels", result.labels}, {"interpretations", result.interpretations}}
          .dump();
  std::string bytes;
  bytes.reserve(sizeof(std::uint64_t) + header.size() + result.maps.size() * sizeof(float) + result.masks.size());
  append_bytes(bytes, std::vector<std::uint64_t>{header.size()});
  bytes += header;
  append_bytes(bytes, result.maps);
  append_bytes(bytes, result.masks);
  return bytes;
}

ClassPart class_part_from_bytes(const std::string& bytes) {
  std::string_view rest = bytes;
  const auto header_size = take_bytes<std::uint64_t>(rest, 1).front();
  if (rest.size() < header_size) throw Error(where, "is cut short");
  try {
    const Json header = Json::parse(rest.substr(0, header_size));
    rest.remove_prefix(header_size);
    ClassPart part{.places = header.at("places"), .result = {}};
    ClassResult& result = part.result;
    result.size = header.at("size");
    result.images = header.at("images");
    result.scores = header.at("scores").get<std::vector<float>>();
    result.labels = header.at("labels").get<std::vector<std::uint8_t>>();
    result.interpretations = header.at("interpretations");
    const std::size_t pixels = part.places.size() * area_of(result);
    result.maps = take_bytes<float>(rest, pixels);
    result.masks = take_bytes<std::uint8_t>(rest, pixels);
    return part;
  } catch (const Json::exception& error) {
    throw Error(where, told(error));
  }
}

ClassResult empty_class(std::size_t images, int size) {
  ClassResult whole;
  whole.size = size;
  whole.images.resize(images);
  whole.scores.resize(images);
  whole.labels.resize(images);
  whole.maps.resize(images * area_of(whole));
  whole.masks.resize(images * area_of(whole));
  return whole;
}

void place(ClassResult& whole, const ClassPart& part) {
  const std::size_t area = area_of(whole);
  const ClassResult& from = part.result;
  for (std::size_t i = 0; i < part.places.size(); ++i) {
    const std::size_t at = part.places[i];
    if (at >= whole.images.size() || from.size != whole.size) throw Error(where, "does not belong to the class");
    whole.images[at] = from.images.at(i);
    whole.scores[at] = from.scores.at(i);
    whole.labels[at] = from.labels.at(i);
    std::copy_n(from.maps.begin() + static_cast<std::ptrdiff_t>(i * area), area,
                whole.maps.begin() + static_cast<std::ptrdiff_t>(at * area));
    std::copy_n(from.masks.begin() + static_cast<std::ptrdiff_t>(i * area), area,
                whole.masks.begin() + static_cast<std::ptrdiff_t>(at * area));
  }
  whole.interpretations.update(from.interpretations);
}

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

std::map<std::string, std::string> heat_maps_of(const ClassResult& result, const std::filesystem::path& root,
                                                int count) {
  std::map<std::string, std::string> files;
  if (result.images.empty()) return files;
  const std::size_t area = area_of(result);
  const auto [low, high] = std::minmax_element(result.maps.begin(), result.maps.end());
  const float range = std::max(*high - *low, 1e-12f);
  for (std::size_t i = 0; i < result.images.size() && files.size() < static_cast<std::size_t>(count); ++i) {
    if (result.labels[i] == 0) continue;
    std::vector<float> scaled(area);
    std::transform(result.maps.begin() + static_cast<std::ptrdiff_t>(i * area),
                   result.maps.begin() + static_cast<std::ptrdiff_t>((i + 1) * area), scaled.begin(),
                   [&](float value) { return (value - *low) / range; });
    const Image photo = decode_image(root / result.images[i]);
    std::string file = result.images[i];
    std::replace(file.begin(), file.end(), '/', '_');
    files[std::filesystem::path(file).stem().string() + ".png"] =
        encode_png(heat_map_panel(photo, scaled, std::span(result.masks).subspan(i * area, area), result.size));
  }
  return files;
}

}  // namespace filo
