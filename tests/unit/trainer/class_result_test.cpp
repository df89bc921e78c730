#include "trainer/class_result.hpp"

#include <gtest/gtest.h>

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

}  // namespace
}  // namespace filo
