#include "scheduler/report/page.hpp"

#include <algorithm>
#include <cstdio>
#include <sstream>
#include <vector>

#include "base/text.hpp"
#include "scheduler/plan/axis_values.hpp"
#include "scheduler/report/formats.hpp"
#include "scheduler/report/report_tables.hpp"
#include "scheduler/report/stage_use.hpp"
#include "settings/metrics.hpp"
#include "workspace/metric_history.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;
constexpr int most_heat_maps_per_trial = 24;
constexpr int most_trials_with_details = 20;  // a page with the pictures of 10,000 trials helps nobody

const char* style = R"(
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #ffffff; --faint: #66707a; --line: #d5dae0; --curve: #0b62d6; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ec; --paper: #14171a; --faint: #98a2ad; --line: #363c43; --curve: #6cb0ff; } }
body { margin: 2rem auto; max-width: 72rem; padding: 0 1rem; font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); }
h1, h2, h3 { line-height: 1.2; } .faint { color: var(--faint); } .scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: 1rem 0; } caption { text-align: left; font-weight: 600; padding-bottom: .3rem; }
th, td { border-bottom: 1px solid var(--line); padding: .3rem .7rem; text-align: right; font-variant-numeric: tabular-nums; }
th:first-child { text-align: left; } th.group { text-align: center; border-bottom-color: var(--faint); }
table.text td, table.text th { text-align: left; white-space: nowrap; } .paper, .note { color: var(--faint); } td .paper { display: inline-block; min-width: 3.2rem; } .note { font-size: .85rem; margin: .2rem 0; max-width: 60rem; }
tbody tr:hover { background: color-mix(in srgb, var(--curve) 8%, transparent); } pre { overflow-x: auto; border: 1px solid var(--line); padding: .8rem; font-size: .85rem; }
svg { max-width: 100%; height: auto; } svg polyline { fill: none; stroke: var(--curve); stroke-width: 1.5; }
svg line { stroke: var(--line); } svg text { fill: var(--faint); font-size: 12px; }
.maps { display: grid; grid-template-columns: repeat(auto-fill, minmax(12rem, 1fr)); gap: .8rem; }
figure { margin: 0; } figure img { width: 100%; display: block; } figcaption { font-size: .8rem; color: var(--faint); overflow-wrap: anywhere; }
)";

std::string trial_title(const PlannedTrial& trial) {
  const std::string values = describe_axis_values(trial.axis_values);
  return trial.fold + (values.empty() ? "" : " (" + values + ")");
}

std::vector<double> losses(const Workspace& workspace, const std::string& train_key, const std::string& phase) {
  std::vector<double> values;
  for (const auto& [step, point] : metric_points(workspace, train_key, "step", phase, "loss"))
    if (point.value) values.push_back(*point.value);
  return values;
}

std::string number(double value) { return formatted(value, "%.4g"); }

// One phase's curve; a line in a box with the largest and smallest value beside it.
std::string curve_svg(const std::string& phase, const std::vector<double>& values) {
  constexpr double width = 560, height = 160, left = 64, top = 12, bottom = 28;
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  const double range = *high > *low ? *high - *low : 1;
  const std::size_t stride = values.size() / 1500 + 1;
  std::ostringstream points;
  for (std::size_t i = 0; i < values.size(); i += stride) {
    const double x = left + (width - left - 8) * static_cast<double>(i) /
                                std::max<double>(1, static_cast<double>(values.size() - 1));
    const double y = top + (height - top - bottom) * (*high - values[i]) / range;
    points << number(x) << "," << number(y) << " ";
  }
  std::ostringstream svg;
  svg << "<svg viewBox=\"0 0 " << width << " " << height << "\" width=\"" << width
      << "\" role=\"img\" aria-label=\"Loss, phase " << html_escaped(phase) << ", from " << number(values.front())
      << " to " << number(values.back()) << "\">"
      << "<line x1=\"" << left << "\" y1=\"" << top << "\" x2=\"" << left << "\" y2=\"" << height - bottom << "\"/>"
      << "<line x1=\"" << left << "\" y1=\"" << height - bottom << "\" x2=\"" << width - 8 << "\" y2=\""
      << height - bottom << "\"/>"
      << "<text x=\"" << left - 6 << "\" y=\"" << top + 8 << "\" text-anchor=\"end\">" << number(*high) << "</text>"
      << "<text x=\"" << left - 6 << "\" y=\"" << height - bottom << "\" text-anchor=\"end\">" << number(*low)
      << "</text>"
      << "<text x=\"" << left << "\" y=\"" << height - 8 << "\">" << html_escaped("loss, phase " + phase) << ", "
      << values.size() << " steps</text>"
      << "<polyline points=\"" << points.str() << "\"/></svg>\n";
  return svg.str();
}

std::string curves_html(const Workspace& workspace, const std::string& train_key) {
  std::string html;
  for (const char* phase : {"main", "adapter"})
    if (const auto values = losses(workspace, train_key, phase); !values.empty()) html += curve_svg(phase, values);
  return html;
}

std::string classes_html(const Json& metrics) {
  if (!metrics.contains("classes") || !metrics["classes"].is_object() || metrics["classes"].empty()) return "";
  ResultTable table{.title = "Per class", .row_heading = "class", .columns = {}, .rows = {}};
  std::vector<MetricTitle> shown;  // what was measured
  for (const auto& metric : known_metrics())
    if (metrics.contains(metric.name)) shown.push_back(metric);
  for (const auto& metric : shown) table.columns.push_back({"", metric.title});
  const auto add = [&](const std::string& label, const Json& values) {
    TableRow row{.label = label, .cells = {}};
    for (const auto& metric : shown) row.cells.push_back(cell_of(values, metric.name));
    table.rows.push_back(std::move(row));
  };
  for (const auto& [name, values] : metrics["classes"].items()) add(name, values);
  add("mean", metrics);
  if (metrics.contains("untrained")) add("mean, untrained", metrics["untrained"]);
  table.add_reasons();
  return "<div class=\"scroll\">" + to_html(table) + "</div>\n";
}

std::string defects_html(const Json& metrics) {
  ResultTable table{.title = "Per type of defect", .row_heading = "class, type (images)", .columns = {}, .rows = {}};
  const std::vector<std::string> names = {"image_auroc", "pixel_auroc", "aupro"};
  for (const auto& name : names) table.columns.push_back({"", metric_title(name)});
  const Json classes = metrics.value("classes", Json::object());
  for (const auto& [class_name, values] : classes.items()) {
    const Json defects = values.value("defects", Json::object());
    for (const auto& [type, of_type] : defects.items()) {
      TableRow row{.label = class_name + ", " + type + " (" + of_type.value("images", Json()).dump() + ")",
                   .cells = {}};
      for (const auto& name : names) row.cells.push_back(cell_of(of_type, name));
      table.rows.push_back(std::move(row));
    }
  }
  if (table.rows.empty()) return "";
  table.add_reasons();
  return "<div class=\"scroll\">" + to_html(table) + "</div>\n";
}

// The heat maps of a result: artifact paths under heat_maps/ that are there, each a PNG.
std::vector<std::string> heat_maps_of(const Workspace& workspace, const std::string& key, const StageResult& result) {
  std::vector<std::string> paths;
  const auto add = [&](const fs::path& relative) {
    if (relative.extension() == ".png") paths.push_back(relative.generic_string());
  };
  for (const auto& [name, path] : result.artifacts.items()) {
    const fs::path relative = path.get<std::string>();
    std::error_code error;
    if (fs::is_directory(workspace.stage_folder(key) / relative, error)) {
      for (const auto& entry : fs::recursive_directory_iterator(workspace.stage_folder(key) / relative, error))
        if (entry.is_regular_file(error)) add(fs::relative(entry.path(), workspace.stage_folder(key), error));
    } else if (fs::is_regular_file(workspace.stage_folder(key) / relative, error)) {
      add(relative);
    }
  }
  std::sort(paths.begin(), paths.end());
  paths.erase(std::unique(paths.begin(), paths.end()), paths.end());
  return paths;
}

// Evenly over the list, so that each class is seen.
std::vector<std::string> sample(const std::vector<std::string>& paths, std::size_t most) {
  if (paths.size() <= most) return paths;
  std::vector<std::string> chosen;
  for (std::size_t i = 0; i < most; ++i) chosen.push_back(paths[i * paths.size() / most]);
  return chosen;
}

std::string url_path(const std::string& path) {
  std::string url;
  char code[4];
  for (const unsigned char c : path) {
    if (std::isalnum(c) || std::string("/._-").find(static_cast<char>(c)) != std::string::npos) {
      url += static_cast<char>(c);
    } else {
      std::snprintf(code, sizeof code, "%%%02X", c);
      url += code;
    }
  }
  return url;
}

std::string heat_maps_html(const Workspace& workspace, const std::string& key, const StageResult& result,
                           const fs::path* copy_to) {
  const auto paths = sample(heat_maps_of(workspace, key, result), most_heat_maps_per_trial);
  if (paths.empty()) return "";
  std::string html = "<h3>Heat maps</h3>\n<div class=\"maps\">\n";
  for (const auto& path : paths) {
    const fs::path target = fs::path(artifact_name::heat_maps) / key / path;
    if (copy_to != nullptr) {
      fs::create_directories((*copy_to / target).parent_path());
      fs::copy_file(workspace.stage_folder(key) / path, *copy_to / target, fs::copy_options::overwrite_existing);
    }
    std::string caption = path;
    if (const std::string folder = std::string(artifact_name::heat_maps) + "/"; caption.starts_with(folder))
      caption = caption.substr(folder.size());
    html += "<figure><img loading=\"lazy\" src=\"" + url_path(target.generic_string()) + "\" alt=\"Heat map of " +
            html_escaped(caption) + "\"><figcaption>" + html_escaped(caption) + "</figcaption></figure>\n";
  }
  return html + "</div>\n";
}

std::string trial_html(const Workspace& workspace, const TrialResult& result, const fs::path* copy_to) {
  const PlannedTrial& trial = *result.trial;
  std::string html = "<h2>" + html_escaped(trial_title(trial)) + "</h2>\n<p class=\"faint\">training " + trial.train +
                     ", evaluation " + trial.evaluate + "</p>\n";
  if (!result.evaluate) return html + "<p>No result yet.</p>\n";
  if (const auto checkpoint = checkpoint_of(workspace, trial))
    html += "<p>Checkpoint: <code>" + html_escaped(*checkpoint) + "</code></p>\n";
  html += classes_html(result.evaluate->metrics);
  html += defects_html(result.evaluate->metrics);
  html += curves_html(workspace, trial.train);
  return html + heat_maps_html(workspace, trial.evaluate, *result.evaluate, copy_to);
}

}  // namespace

std::string report_page(const Workspace& workspace, const Plan& plan, const fs::path* copy_to) {
  const auto results = trial_results(workspace, plan);
  std::string html =
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
      "content=\"width=device-width, "
      "initial-scale=1\"><title>" +
      html_escaped(plan.name) + "</title><style>" + style + "</style></head><body>\n<h1>" + html_escaped(plan.name) +
      "</h1>\n";
  const auto there =
      std::count_if(results.begin(), results.end(), [](const auto& result) { return result.evaluate.has_value(); });
  html += "<p class=\"faint\">" + std::to_string(there) + " of " + std::to_string(results.size()) +
          " trials have a result. \"untrained\": the same model and data before training.</p>\n";
  for (const auto& table : report_tables(workspace, plan, results))
    html += "<div class=\"scroll\">" + std::visit([](const auto& one) { return to_html(one); }, table) + "</div>\n";
  if (const auto uses = stage_uses(workspace, plan); !uses.empty())
    html += "<div class=\"scroll\">" + to_html(resource_table(uses)) + "</div>\n";
  for (std::size_t i = 0; i < results.size() && i < most_trials_with_details; ++i)
    html += trial_html(workspace, results[i], copy_to);
  if (results.size() > most_trials_with_details)
    html += "<p class=\"faint\">Details of the first " + std::to_string(most_trials_with_details) +
            " trials; results.json has all.</p>\n";
  return html + "<h2>Settings</h2>\n<pre>" + html_escaped(plan.experiment.dump(2)) + "</pre>\n</body></html>\n";
}

}  // namespace filo
