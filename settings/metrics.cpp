#include "settings/metrics.hpp"

#include <algorithm>

#include "base/json.hpp"

namespace filo {

const std::vector<MetricTitle>& known_metrics() {
  static const std::vector<MetricTitle> list = {{"image_auroc", "image AUROC"},
                                                {"image_ap", "image AP"},
                                                {"image_f1_max", "image F1-max"},
                                                {"pixel_auroc", "pixel AUROC"},
                                                {"pixel_ap", "pixel AP"},
                                                {"pixel_f1_max", "pixel F1-max"},
                                                {"aupro", "AUPRO"},
                                                {"aupro_at_0.05", "AUPRO at 0.05"}};
  return list;
}

std::vector<std::string> metric_names() {
  std::vector<std::string> names;
  for (const auto& metric : known_metrics()) names.push_back(metric.name);
  return names;
}

std::string aupro_name(double fpr_limit) {
  constexpr double usual = 0.3;
  return fpr_limit == usual ? "aupro" : "aupro_at_" + Json(fpr_limit).dump();
}

bool is_metric(const std::string& name) {
  return std::any_of(known_metrics().begin(), known_metrics().end(),
                     [&](const auto& metric) { return metric.name == name; });
}

std::string metric_title(const std::string& name) {
  for (const auto& metric : known_metrics())
    if (metric.name == name) return metric.title;
  return name;
}

const std::vector<std::string>& main_metrics() {
  static const std::vector<std::string> names = {"image_auroc", "pixel_auroc"};
  return names;
}

}  // namespace filo
