#include "trainer/class_result.hpp"

#include <gtest/gtest.h>

#include "base/error.hpp"
#include "settings/metrics.hpp"

namespace filo {
namespace {

// Two 2 x 2 images; the defect of the second has the highest scores.
ClassResult separable() {
  ClassResult result;
  result.size = 2;
  result.images = {"good/0.png", "bad/0.png"};
  result.scores = {0.1f, 0.9f};
  result.labels = {0, 1};
  result.maps = {0.1f, 0.2f, 0.1f, 0.0f, 0.3f, 0.9f, 0.2f, 0.1f};
  result.masks = {0, 0, 0, 0, 0, 1, 0, 0};
  return result;
}

TEST(ClassResult, HasEveryMetricThatTablesShow) {
  // Guards the one list of metrics against a result that lacks one of them.
  const Json metrics = metrics_of(separable());
  for (const std::string& name : metric_names()) EXPECT_EQ(metrics.value(name, 0.0), 1.0) << name;
  EXPECT_EQ(metrics.at("images"), 2);
}

TEST(ClassResult, AClassWithoutDefectsHasNoMetrics) {
  // Guards NaN against reaching a file: with one kind of label there is nothing to rank.
  ClassResult result = separable();
  result.labels = {0, 0};
  result.masks.assign(8, 0);
  const Json metrics = metrics_of(result);
  for (const std::string& name : metric_names()) EXPECT_TRUE(metrics.at(name).is_null()) << name;
}

TEST(ClassResult, TheMeanLeavesOutClassesWithoutAValue) {
  // Guards means from counting an undefined metric as zero; without any value the mean is undefined too.
  Json classes = Json::object();
  for (const char* name : {"cup", "nut", "box"})
    for (const std::string& metric : metric_names()) classes[name][metric] = nullptr;
  classes["cup"]["image_auroc"] = 0.5;
  classes["nut"]["image_auroc"] = 1.0;
  const Json means = mean_over_classes(classes);
  EXPECT_EQ(means.at("image_auroc"), 0.75);
  EXPECT_TRUE(means.at("aupro").is_null());
}

// Guards what ranks send each other: the class put together from parts is the class.
TEST(ClassResult, PartsPutTogetherAreTheWhole) {
  ClassResult expected = separable();
  expected.interpretations = {{"good/0.png", "none"}, {"bad/0.png", {{"description", "a \xc3\xa4 scratch"}}}};
  ClassResult whole = empty_class(2, 2);
  for (const std::size_t at : {1u, 0u}) {
    ClassPart part{.places = {at}, .result = {}};
    part.result.size = 2;
    part.result.images = {expected.images[at]};
    part.result.scores = {expected.scores[at]};
    part.result.labels = {expected.labels[at]};
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
  EXPECT_EQ(whole.maps, expected.maps);
  EXPECT_EQ(whole.masks, expected.masks);
  EXPECT_EQ(whole.interpretations, expected.interpretations);
}

}  // namespace
}  // namespace filo
