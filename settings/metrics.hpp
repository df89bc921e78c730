// What is measured of an evaluation: the one list of names, titles and their order. A result's values are parts of 1
// (null where a class has no anomalous image, say); programs show them in per cent.
#pragma once

#include <string>
#include <vector>

namespace filo {

struct MetricTitle {
  std::string name;   // in results, tables and searches: "image_auroc"
  std::string title;  // on tables and pages: "image AUROC"
};

const std::vector<MetricTitle>& known_metrics();  // in the order they are shown

std::vector<std::string> metric_names();
// Of AUPRO up to a false positive rate: "aupro" up to 0.3, else "aupro_at_0.05". Those that known_metrics() lacks stand
// in results only.
std::string aupro_name(double fpr_limit);
bool is_metric(const std::string& name);
std::string metric_title(const std::string& name);  // of another name: itself

// What is shown where nobody asked for anything else: image AUROC and pixel AUROC.
const std::vector<std::string>& main_metrics();

}  // namespace filo
