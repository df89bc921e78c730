#include "trainer/class_result.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numeric>

#include "base/error.hpp"
#include "settings/metrics.hpp"
#include "trainer/bootstrap.hpp"

namespace filo {
namespace {

// Two 2 x 2 images; the defect of the second has the highest scores.
ImageResults separable_images() {
  ImageResults result;
  result.size = {2, 2};
  result.images = {"good/0.png", "bad/0.png"};
  result.scores = {0.1f, 0.9f};
  result.labels = {0, 1};
  result.defects = {"good", "scratch"};
  result.masked = {1, 1};
  result.maps = {0.1f, 0.2f, 0.1f, 0.0f, 0.3f, 0.9f, 0.2f, 0.1f};
  result.masks = {0, 0, 0, 0, 0, 1, 0, 0};
  return result;
}

ClassResult class_of(const ImageResults& images) {
  ClassResult result = empty_class("cup", images.images.size(), images.size, {});
  std::vector<std::size_t> places(images.images.size());
  std::iota(places.begin(), places.end(), std::size_t{0});
  place(result, {.places = places, .result = images});
  return result;
}

const std::vector<double> limits = {0.3, 0.05};

TEST(ClassResult, HasEveryMetricThatTablesShow) {
  // Guards the one list of metrics against a result that lacks one of them.
  const ClassMetrics metrics = metrics_of(class_of(separable_images()), limits, 1);
  for (const std::string& name : metric_names()) {
    EXPECT_EQ(metrics.values.value(name, 0.0), 1.0) << name;
    EXPECT_EQ(metrics.values.at("intervals").at(name), Json({1.0, 1.0})) << name;
    EXPECT_EQ(metrics.resamples.at(name).size(), resample_count) << name;
  }
  EXPECT_EQ(metrics.values.at("images"), 2);
  EXPECT_FALSE(metrics.values.contains("reasons"));
}

TEST(ClassResult, ALimitOfItsOwnHasItsName) {
  const Json values = metrics_of(class_of(separable_images()), {0.1}, 1).values;
  EXPECT_EQ(values.at("aupro_at_0.1"), 1.0);
  EXPECT_FALSE(values.contains("aupro"));
}

TEST(ClassResult, AMetricThatIsUndefinedHasAReason) {
  // Guards NaN against reaching a file, and null against standing there without a word.
  const auto expect = [](const ImageResults& images, const std::string& of_images, const std::string& of_pixels) {
    const Json values = metrics_of(class_of(images), limits, 1).values;
    for (const std::string& name : metric_names()) {
      const std::string& reason = name.starts_with("image_") ? of_images : of_pixels;
      EXPECT_EQ(values.at(name).is_null(), !reason.empty()) << name;
      EXPECT_EQ(values.at("intervals").contains(name), reason.empty()) << name;
      EXPECT_EQ(values.value("reasons", Json::object()).value(name, ""), reason) << name;
    }
  };
  ImageResults images = separable_images();
  images.labels = {0, 0};
  expect(images, "no anomalous image", "");
  images.labels = {1, 1};
  expect(images, "no normal image", "");
  images.masks.assign(8, 0);
  expect(images, "no normal image", "no mask with a defect");
  images.masks.assign(8, 1);
  expect(images, "no normal image", "no defect-free pixel");
}

// Guards data sets whose defects have labels alone: they count for image metrics, and pixel metrics are those of the
// other images, or null with the reason.
TEST(ClassResult, ImagesWithoutAMaskAreLeftOutOfPixelMetrics) {
  ImageResults images = separable_images();
  const Json before = metrics_of(class_of(images), limits, 1).values;
  images.images.push_back("bad/1.png");
  images.scores.push_back(0.05f);
  images.labels.push_back(1);
  images.defects.push_back("dent");
  images.masked.push_back(0);
  images.maps.insert(images.maps.end(), {5.0f, 5.0f, 5.0f, 5.0f});
  images.masks.insert(images.masks.end(), {0, 0, 0, 0});
  ClassResult result = class_of(images);
  ClassMetrics metrics = metrics_of(result, limits, 1);
  EXPECT_EQ(metrics.values.at("without_mask"), 1);
  EXPECT_EQ(metrics.values.at("image_auroc"), 0.5);
  for (const char* name : {"pixel_auroc", "pixel_ap", "pixel_f1_max", "aupro"})
    EXPECT_EQ(metrics.values.at(name), before.at(name)) << name;
  Json means = mean_over_classes({{"cup", metrics.values}}, {{"cup", metrics.resamples}});
  EXPECT_EQ(means.at("without_mask"), 1);
  EXPECT_EQ(means.at("pixel_auroc"), before.at("pixel_auroc"));

  images.masked = {1, 0, 0};
  images.masks.assign(12, 0);
  result = class_of(images);
  metrics = metrics_of(result, limits, 1);
  means = mean_over_classes({{"cup", metrics.values}}, {{"cup", metrics.resamples}});
  const Json defects = defect_metrics_of(result, metrics.values, limits, 1);
  for (const Json& values : {metrics.values, means}) {
    EXPECT_EQ(values.at("image_auroc"), 0.5);
    EXPECT_TRUE(values.at("aupro").is_null());
    EXPECT_EQ(values.at("reasons").at("aupro"), "no mask with a defect: 2 anomalous images have no mask");
  }
  EXPECT_EQ(defects.at("dent").at("reasons").at("pixel_auroc"),
            "no mask with a defect: 1 anomalous images have no mask");
}

Json defects_of(const ImageResults& images) {
  const ClassResult result = class_of(images);
  return defect_metrics_of(result, metrics_of(result, {0.3}, 1).values, {0.3}, 1);
}

// Guards: a type of defect is told from the normal images, not from other defects; the file says why a value is null.
TEST(ClassResult, HasMetricsOfEachTypeOfDefect) {
  ImageResults images = separable_images();
  EXPECT_EQ(defects_of(images),
            Json({{"scratch", {{"image_auroc", 1.0}, {"pixel_auroc", 1.0}, {"aupro", 1.0}, {"images", 1}}}}));

  // A dent that scores below the normal image, and whose mask is empty.
  images.images.push_back("bad/1.png");
  images.scores.push_back(0.05f);
  images.labels.push_back(1);
  images.defects.push_back("dent");
  images.masked.push_back(1);
  images.maps.insert(images.maps.end(), {0.0f, 0.0f, 0.0f, 0.0f});
  images.masks.insert(images.masks.end(), {0, 0, 0, 0});
  const Json defects = defects_of(images);
  EXPECT_EQ(defects.at("scratch").at("image_auroc"), 1.0);
  EXPECT_EQ(defects.at("scratch").at("pixel_auroc"), 1.0);
  EXPECT_FALSE(defects.at("scratch").contains("reasons"));
  EXPECT_EQ(defects.at("dent").at("image_auroc"), 0.0);
  EXPECT_EQ(defects.at("dent").at("images"), 1);
  EXPECT_EQ(defects.at("dent").at("reasons"),
            Json({{"aupro", "no mask with a defect"}, {"pixel_auroc", "no mask with a defect"}}));
  EXPECT_TRUE(defects.at("dent").at("aupro").is_null());

  images.labels = {1, 1, 1};
  images.defects = {"dent", "scratch", "dent"};
  EXPECT_EQ(defects_of(images).at("scratch").at("reasons").at("image_auroc"), "no normal image");
  images.defects = {"dent", "dent", "dent"};
  EXPECT_EQ(defects_of(images).at("dent").at("reasons").at("image_auroc"), "no normal image");
}

TEST(ClassResult, ANumberThatIsNoneEndsItAndNamesTheImage) {
  ImageResults images = separable_images();
  images.scores[1] = NAN;
  EXPECT_THROW(class_of(images), Error);
  images = separable_images();
  images.maps[5] = NAN;
  try {
    class_of(images);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()), "metrics: bad/0.png: pixel 1 of its anomaly map is NaN, expected a number");
  }
}

TEST(ClassResult, TheMeanWeighsClassesTheSameAndLeavesOutThoseWithoutAValue) {
  // Guards means from counting images in place of classes, and an undefined metric as zero.
  const Json classes = {{"cup", {{"image_auroc", 0.5}, {"aupro", nullptr}, {"images", 1000}}},
                        {"nut", {{"image_auroc", 1.0}, {"aupro", nullptr}, {"images", 10}}},
                        {"box", {{"image_auroc", nullptr}, {"aupro", nullptr}, {"images", 10}}}};
  Json resamples;
  resamples["cup"]["image_auroc"] = {0.4, 0.5, 0.6};
  resamples["nut"]["image_auroc"] = {1.0, nullptr, 0.9};
  resamples["box"] = Json::object();
  const Json means = mean_over_classes(classes, resamples);
  EXPECT_EQ(means.at("image_auroc"), 0.75);
  // Means of the draws: 0.7, 0.5 (of one class), 0.75; percentiles are interpolated between them.
  EXPECT_NEAR(means.at("intervals").at("image_auroc").at(0), 0.51, 1e-12);
  EXPECT_NEAR(means.at("intervals").at("image_auroc").at(1), 0.7475, 1e-12);
  EXPECT_TRUE(means.at("aupro").is_null());
  EXPECT_EQ(means.at("reasons"), Json({{"aupro", "undefined in every class"}}));
}

TEST(ClassResult, ItsNeedIsKnownBeforeTheWork) {
  // Guards the bound: a class of any size takes no more memory than the limit and what intervals need, but a file.
  const MapsStorage storage{.memory_bytes = 512 << 20, .folder = std::filesystem::temp_directory_path()};
  const ImageSize side = {518, 518};
  const MetricsNeed usual = need_of_largest({{20, side}, {200, side}, {100, side}}, storage, 2);
  EXPECT_EQ(usual.images, 200u);
  EXPECT_EQ(usual.disk_bytes, 0u);
  EXPECT_LT(usual.memory_bytes, 1e9);
  const MetricsNeed large = need_of_largest({{2000, side}}, storage, 2);
  EXPECT_EQ(large.disk_bytes, 2000u * 518 * 518 * 5);
  EXPECT_LT(large.memory_bytes, 1e9);
  EXPECT_THROW(need_of_largest({{1'000'000'000, {50'000, 50'000}}}, storage, 2), Error);
}

// Guards what ranks send each other: the class put together from parts is the class.
TEST(ClassResult, PartsPutTogetherAreTheWhole) {
  ImageResults expected = separable_images();
  expected.interpretations = {{"good/0.png", "none"}, {"bad/0.png", {{"description", "a \xc3\xa4 scratch"}}}};
  ClassResult whole = empty_class("cup", 2, {2, 2}, {});
  for (const std::size_t at : {1u, 0u}) {
    ClassPart part{.places = {at}, .result = {}};
    part.result.size = {2, 2};
    part.result.images = {expected.images[at]};
    part.result.scores = {expected.scores[at]};
    part.result.labels = {expected.labels[at]};
    part.result.defects = {expected.defects[at]};
    part.result.masked = {expected.masked[at]};
    part.result.maps.assign(expected.maps.begin() + static_cast<std::ptrdiff_t>(4 * at),
                            expected.maps.begin() + static_cast<std::ptrdiff_t>(4 * at + 4));
    part.result.masks.assign(expected.masks.begin() + static_cast<std::ptrdiff_t>(4 * at),
                             expected.masks.begin() + static_cast<std::ptrdiff_t>(4 * at + 4));
    part.result.interpretations[expected.images[at]] = expected.interpretations[expected.images[at]];
    const std::string bytes = to_bytes(part);
    place(whole, class_part_from_bytes(bytes));
    for (const std::size_t cut : {std::size_t{0}, std::size_t{7}, std::size_t{20}, bytes.size() - 1})
      EXPECT_THROW(class_part_from_bytes(bytes.substr(0, cut)), Error) << cut;
    part.places = {2};
    EXPECT_THROW(place(whole, part), Error);
  }
  place(whole, class_part_from_bytes(to_bytes(ClassPart{.places = {}, .result = {}})));  // a rank without images
  EXPECT_EQ(whole.images, expected.images);
  EXPECT_EQ(whole.scores, expected.scores);
  EXPECT_EQ(whole.labels, expected.labels);
  EXPECT_EQ(whole.defects, expected.defects);
  AnomalyMaps::Buffer buffer;
  for (const std::size_t at : {0u, 1u}) {
    const auto [map, mask] = whole.maps.read(at, buffer);
    EXPECT_TRUE(std::equal(map.begin(), map.end(), expected.maps.begin() + static_cast<std::ptrdiff_t>(4 * at)));
    EXPECT_TRUE(std::equal(mask.begin(), mask.end(), expected.masks.begin() + static_cast<std::ptrdiff_t>(4 * at)));
  }
  EXPECT_EQ(whole.interpretations, expected.interpretations);
}

}  // namespace
}  // namespace filo
