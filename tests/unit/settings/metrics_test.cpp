#include "settings/metrics.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace filo {
namespace {

using ::testing::ElementsAre;

// Guards: the order of tables and pages, and the names that results on disk have.
TEST(Metrics, AreOneListInTheOrderShown) {
  EXPECT_THAT(metric_names(), ElementsAre("image_auroc", "image_ap", "image_f1_max", "pixel_auroc", "pixel_ap",
                                          "pixel_f1_max", "aupro", "aupro_at_0.05"));
  EXPECT_EQ(metric_title("pixel_f1_max"), "pixel F1-max");
  EXPECT_EQ(metric_title("loss"), "loss");
  EXPECT_TRUE(is_metric("aupro"));
  EXPECT_FALSE(is_metric("loss"));
  for (const auto& name : main_metrics()) EXPECT_TRUE(is_metric(name)) << name;
}

}  // namespace
}  // namespace filo
