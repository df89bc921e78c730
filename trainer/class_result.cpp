#include "trainer/class_result.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <set>
#include <span>
#include <utility>

#include "base/error.hpp"
#include "data/images/image.hpp"
#include "settings/metrics.hpp"
#include "trainer/heat_map_choice.hpp"
#include "trainer/metrics.hpp"
#include "trainer/pixel_metrics.hpp"

namespace filo {
namespace {

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

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

std::size_t area_of(ImageSize size) {
  return static_cast<std::size_t>(size.width) * static_cast<std::size_t>(size.height);
}

Image heat_map_panel(const Image& photo, const std::vector<float>& map, std::span<const std::uint8_t> mask,
                     ImageSize size) {
  Image outline(size.width, size.height, 1);
  std::copy(mask.begin(), mask.end(), outline.pixels.begin());
  return join_horizontally({draw_contour(to_rgb(photo), outline, {.red = 0, .green = 230, .blue = 118}),
                            overlay_heat_map(to_rgb(photo), map.data(), size.height, size.width)});
}

}  // namespace

std::string to_bytes(const ClassPart& part) {
  const ImageResults& result = part.result;
  const Json fields = {
      {"width", result.size.width}, {"height", result.size.height}, {"places", part.places},
      {"images", result.images},    {"scores", result.scores},      {"labels", result.labels},
      {"defects", result.defects},  {"masked", result.masked},      {"interpretations", result.interpretations}};
  const std::string header = fields.dump();
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
    ImageResults& result = part.result;
    result.size = {header.at("width"), header.at("height")};
    result.images = header.at("images");
    result.scores = header.at("scores").get<std::vector<float>>();
    result.labels = header.at("labels").get<std::vector<std::uint8_t>>();
    result.defects = header.at("defects").get<std::vector<std::string>>();
    result.masked = header.at("masked").get<std::vector<std::uint8_t>>();
    result.interpretations = header.at("interpretations");
    const std::size_t pixels = part.places.size() * area_of(result.size);
    result.maps = take_bytes<float>(rest, pixels);
    result.masks = take_bytes<std::uint8_t>(rest, pixels);
    return part;
  } catch (const Json::exception& error) {
    throw Error(where, told(error));
  }
}

ClassResult empty_class(const std::string& name, std::size_t images, ImageSize size, const MapsStorage& storage) {
  ClassResult whole;
  whole.name = name;
  whole.size = size;
  whole.images.resize(images);
  whole.scores.resize(images);
  whole.labels.resize(images);
  whole.defects.resize(images);
  whole.masked.resize(images);
  if (images > 0)
    whole.maps =
        AnomalyMaps(images, static_cast<std::size_t>(size.height), static_cast<std::size_t>(size.width), storage);
  return whole;
}

void place(ClassResult& whole, const ClassPart& part) {
  const ImageResults& from = part.result;
  const std::size_t area = area_of(from.size);
  for (std::size_t i = 0; i < part.places.size(); ++i) {
    const std::size_t at = part.places[i];
    if (at >= whole.images.size() || from.size != whole.size) throw Error(where, "does not belong to the class");
    whole.images[at] = from.images.at(i);
    whole.scores[at] = from.scores.at(i);
    whole.labels[at] = from.labels.at(i);
    whole.defects[at] = from.defects.at(i);
    whole.masked[at] = from.masked.at(i);
    if (std::isnan(whole.scores[at]))
      throw Error("metrics: " + whole.images[at], "its score is NaN, expected a number");
    whole.maps.put(at, std::span(from.maps).subspan(i * area, area), std::span(from.masks).subspan(i * area, area),
                   whole.images[at]);
  }
  whole.interpretations.update(from.interpretations);
}

namespace {

// A metric of the class and of each of its resamples, and why it would be undefined.
struct Measured {
  std::string name;
  double value = 0;
  std::vector<double> resampled;
  std::string reason;
};

std::string reason_of_images(const std::vector<std::uint8_t>& labels) {
  const auto anomalous = std::count(labels.begin(), labels.end(), 1);
  if (anomalous == 0) return "no anomalous image";
  return anomalous == std::ssize(labels) ? "no normal image" : "";
}

constexpr const char* without_mask = "without_mask";

std::string reason_of_unmasked(std::size_t unmasked) {
  return "no mask with a defect: " + std::to_string(unmasked) + " anomalous images have no mask";
}

// `images`: the masked ones of some, `unmasked` the number of the others.
std::string reason_of_pixels(const AnomalyMaps& maps, const std::vector<std::size_t>& images, std::size_t unmasked) {
  std::size_t defects = 0;
  for (const std::size_t image : images) defects += maps.defect_pixels(image);
  if (defects == 0 && unmasked > 0) return reason_of_unmasked(unmasked);
  if (defects == 0) return "no mask with a defect";
  return defects == images.size() * maps.area() ? "no defect-free pixel" : "";
}

std::vector<std::size_t> all_images(const ClassResult& result) {
  std::vector<std::size_t> images(result.images.size());
  std::iota(images.begin(), images.end(), std::size_t{0});
  return images;
}

std::vector<std::size_t> masked_of(const ClassResult& result, std::vector<std::size_t> images) {
  std::erase_if(images, [&](std::size_t image) { return result.masked[image] == 0; });
  return images;
}

std::vector<Measured> measure(const ClassResult& result, const std::vector<double>& fpr_limits, int threads) {
  const Resamples resamples = draw_resamples(result.labels, result.name);
  const Metrics image = binary_metrics(result.scores, result.labels);
  const std::vector<Metrics> images = resampled_metrics(result.scores, result.labels, resamples);
  const std::vector<std::size_t> masked = masked_of(result, all_images(result));
  const PixelMetricsResult pixel =
      pixel_metrics(result.maps, masked, {.fpr_limits = fpr_limits, .threads = threads, .resamples = &resamples});
  std::vector<Measured> all;
  const std::string image_reason = reason_of_images(result.labels),
                    pixel_reason = reason_of_pixels(result.maps, masked, result.images.size() - masked.size());
  const std::pair<const char*, double Metrics::*> members[] = {
      {"auroc", &Metrics::auroc}, {"ap", &Metrics::ap}, {"f1_max", &Metrics::f1_max}};
  for (const auto& [name, member] : members) {
    all.push_back({std::string("image_") + name, image.*member, {}, image_reason});
    for (const Metrics& metrics : images) all.back().resampled.push_back(metrics.*member);
    all.push_back({std::string("pixel_") + name, pixel.exact.metrics.*member, {}, pixel_reason});
    for (const PixelMetrics& metrics : pixel.resampled) all.back().resampled.push_back(metrics.metrics.*member);
  }
  for (std::size_t i = 0; i < fpr_limits.size(); ++i) {
    all.push_back({aupro_name(fpr_limits[i]), pixel.exact.aupro[i], {}, pixel_reason});
    for (const PixelMetrics& metrics : pixel.resampled) all.back().resampled.push_back(metrics.aupro[i]);
  }
  return all;
}

// Adds a metric to `values`, as metrics_of() and mean_over_classes() have it.
void add_metric(Json& values, const Measured& measured) {
  if (std::isnan(measured.value)) {
    values[measured.name] = nullptr;
    values["reasons"][measured.name] = measured.reason;
    return;
  }
  values[measured.name] = measured.value;
  if (const auto interval = interval_95(measured.resampled))
    values["intervals"][measured.name] = {interval->first, interval->second};
}

// Of some images of a class, without intervals.
Json metrics_of_images(const ClassResult& result, const std::vector<std::size_t>& images,
                       const std::vector<double>& fpr_limits, int threads) {
  std::vector<float> scores;
  std::vector<std::uint8_t> labels;
  for (const std::size_t image : images) {
    scores.push_back(result.scores[image]);
    labels.push_back(result.labels[image]);
  }
  const std::vector<std::size_t> masked = masked_of(result, images);
  const PixelMetrics pixel =
      pixel_metrics(result.maps, masked, {.fpr_limits = fpr_limits, .threads = threads, .resamples = nullptr}).exact;
  const std::string pixel_reason = reason_of_pixels(result.maps, masked, images.size() - masked.size());
  Json values = Json::object();
  add_metric(values, {"image_auroc", binary_metrics(scores, labels).auroc, {}, reason_of_images(labels)});
  add_metric(values, {"pixel_auroc", pixel.metrics.auroc, {}, pixel_reason});
  for (std::size_t i = 0; i < fpr_limits.size(); ++i)
    add_metric(values, {aupro_name(fpr_limits[i]), pixel.aupro[i], {}, pixel_reason});
  return values;
}

// The same as far as the whole class has it already.
Json metrics_of_whole(const Json& of_class, const std::vector<double>& fpr_limits) {
  std::vector<std::string> names = {"image_auroc", "pixel_auroc"};
  for (const double limit : fpr_limits) names.push_back(aupro_name(limit));
  Json values = Json::object();
  for (const std::string& name : names) {
    values[name] = of_class.at(name);
    if (values[name].is_null()) values["reasons"][name] = of_class.at("reasons").at(name);
  }
  return values;
}

std::vector<std::string> metrics_in(const Json& classes) {
  std::set<std::string> names;
  for (const auto& [class_name, values] : classes.items())
    for (const auto& [name, value] : values.items())
      if (name != "images" && name != without_mask && !value.is_object()) names.insert(name);
  return {names.begin(), names.end()};
}

// Over the classes where it is a number.
Measured mean_of(const std::string& name, const Json& classes, const Json& resamples) {
  Measured mean{.name = name, .value = not_a_number, .resampled = {}, .reason = "undefined in every class"};
  double sum = 0;
  std::size_t count = 0;
  std::vector<double> sums, counts;
  for (const auto& [class_name, values] : classes.items()) {
    if (!values.at(name).is_number()) continue;
    sum += values.at(name).get<double>();
    ++count;
    const Json& drawn = resamples.at(class_name).at(name);
    sums.resize(std::max(sums.size(), drawn.size()));
    counts.resize(sums.size());
    for (std::size_t i = 0; i < drawn.size(); ++i)
      if (drawn[i].is_number() && !std::isnan(drawn[i].get<double>())) {
        sums[i] += drawn[i].get<double>();
        ++counts[i];
      }
  }
  if (count > 0) mean.value = sum / static_cast<double>(count);
  for (std::size_t i = 0; i < sums.size(); ++i)
    if (counts[i] > 0) mean.resampled.push_back(sums[i] / counts[i]);
  return mean;
}

}  // namespace

ClassMetrics metrics_of(const ClassResult& result, const std::vector<double>& fpr_limits, int threads) {
  ClassMetrics metrics{.values = {{"images", result.images.size()}, {"intervals", Json::object()}},
                       .resamples = Json::object()};
  for (const Measured& measured : measure(result, fpr_limits, threads)) {
    add_metric(metrics.values, measured);
    metrics.resamples[measured.name] = measured.resampled;
  }
  if (const auto unmasked = std::ranges::count(result.masked, 0); unmasked > 0) metrics.values[without_mask] = unmasked;
  return metrics;
}

Json defect_metrics_of(const ClassResult& result, const Json& of_class, const std::vector<double>& fpr_limits,
                       int threads) {
  std::map<std::string, std::vector<std::size_t>> types;  // type -> its images
  std::vector<std::size_t> normal;
  for (const std::size_t image : all_images(result))
    (result.labels[image] == 1 ? types[result.defects[image]] : normal).push_back(image);
  Json metrics = Json::object();
  for (const auto& [type, of_type] : types) {
    std::vector<std::size_t> images = of_type;
    images.insert(images.end(), normal.begin(), normal.end());
    metrics[type] = types.size() == 1 ? metrics_of_whole(of_class, fpr_limits)
                                      : metrics_of_images(result, images, fpr_limits, threads);
    metrics[type]["images"] = of_type.size();
  }
  return metrics;
}

Json mean_over_classes(const Json& classes, const Json& resamples) {
  Json means = {{"intervals", Json::object()}};
  std::size_t unmasked = 0;
  for (const Json& values : classes) unmasked += values.value(without_mask, std::size_t{0});
  for (const std::string& name : metrics_in(classes)) {
    Measured mean = mean_of(name, classes, resamples);
    if (unmasked > 0 && !name.starts_with("image_")) mean.reason = reason_of_unmasked(unmasked);
    add_metric(means, mean);
  }
  if (unmasked > 0) means[without_mask] = unmasked;
  return means;
}

MetricsNeed need_of_largest(const std::vector<ClassSize>& classes, const MapsStorage& storage, int threads) {
  MetricsNeed need;
  std::size_t pixels = 0;
  for (const auto& [images, size] : classes) {
    if (images * area_of(size) <= pixels) continue;
    pixels = images * area_of(size);
    need.images = images;
    need.memory_bytes = metrics_memory_bytes(images, area_of(size), storage.memory_bytes, threads);
    need.disk_bytes = AnomalyMaps::spilled_bytes(images, area_of(size), storage.memory_bytes);
  }
  std::error_code error;
  const auto space = std::filesystem::space(storage.folder, error);
  if (!error && need.disk_bytes > space.available)
    throw Error("evaluate: " + storage.folder.string(),
                std::to_string(space.available >> 20) + " MiB of room found, expected " +
                    std::to_string(need.disk_bytes >> 20) + " MiB for the maps of a class of " +
                    std::to_string(need.images) + " images");
  return need;
}

std::map<std::string, std::string> heat_maps_of(const ClassResult& result, const std::filesystem::path& root, int count,
                                                const std::optional<Grey16Range>& grey16) {
  std::map<std::string, std::string> files;
  if (result.images.empty()) return files;
  const float low = result.maps.lowest(), range = std::max(result.maps.highest() - low, 1e-12f);
  AnomalyMaps::Buffer buffer;
  for (const auto& [why, i] : choose_heat_maps(result.scores, result.labels, result.name, count)) {
    const auto [map, mask] = result.maps.read(i, buffer);
    std::vector<float> scaled(map.size());
    std::transform(map.begin(), map.end(), scaled.begin(), [&](float value) { return (value - low) / range; });
    const Image photo = decode_image(root / result.images[i], grey16);
    std::string file = result.images[i];
    std::replace(file.begin(), file.end(), '/', '_');
    files[why + "-" + std::filesystem::path(file).stem().string() + ".png"] =
        encode_png(heat_map_panel(photo, scaled, mask, result.size));
  }
  return files;
}

}  // namespace filo
