#include "scheduler/report/report.hpp"

#include "base/files.hpp"
#include "scheduler/report/formats.hpp"
#include "scheduler/report/page.hpp"
#include "scheduler/report/report_tables.hpp"

namespace filo {

namespace fs = std::filesystem;

Json report_json(const Workspace& workspace, const Plan& plan) {
  const auto results = trial_results(workspace, plan);
  Json json = {
      {"experiment", plan.name}, {"settings", plan.experiment}, {"tables", Json::array()}, {"trials", Json::array()}};
  for (const auto& table : result_tables(plan, results)) json["tables"].push_back(to_json(table));
  json["shared_images"] = Json::array();
  for (const auto& shared : plan.shared_images)
    json["shared_images"].push_back(
        {{"fold", shared.fold}, {"train", shared.train}, {"test", shared.test}, {"images", shared.images}});
  json["searches"] = Json::array();
  for (const auto& [experiment, search] : plan.searches)
    json["searches"].push_back(search_json(workspace, plan, experiment));
  for (const auto& result : results) {
    const PlannedTrial& trial = *result.trial;
    const auto checkpoint = checkpoint_of(workspace, trial);
    json["trials"].push_back({{"experiment", trial.experiment},
                              {"fold", trial.fold},
                              {"axis_values", trial.axis_values},
                              {"train", trial.train},
                              {"evaluate", trial.evaluate},
                              {"checkpoint", checkpoint ? Json(*checkpoint) : Json()},
                              {"metrics", result.evaluate ? result.evaluate->metrics : Json()}});
  }
  return json;
}

std::string report_text(const Workspace& workspace, const Plan& plan, ReportFormat format) {
  if (format == ReportFormat::html) return report_page(workspace, plan, nullptr);
  if (format == ReportFormat::json) return report_json(workspace, plan).dump(2) + "\n";
  std::string text = format == ReportFormat::latex ? "% \\usepackage{booktabs}\n" : "";
  for (const auto& any : report_tables(workspace, plan, trial_results(workspace, plan))) {
    if (!text.empty()) text += "\n";
    text += std::visit(
        [&](const auto& table) {
          return format == ReportFormat::csv        ? to_csv(table)
                 : format == ReportFormat::terminal ? to_terminal(table)
                 : format == ReportFormat::latex    ? to_latex(table)
                                                    : to_markdown(table);
        },
        any);
  }
  return text;
}

fs::path write_report(const Workspace& workspace, const Plan& plan) {
  const fs::path final_path = workspace.report_folder(plan.name);
  AtomicFolder folder(final_path);
  const auto write = [&](const char* name, const std::string& text) {
    write_file_atomically(folder.path() / name, text);
  };
  write("report.html", report_page(workspace, plan, &folder.path()));
  write("results.json", report_text(workspace, plan, ReportFormat::json));
  write("results.csv", report_text(workspace, plan, ReportFormat::csv));
  write("results.md", report_text(workspace, plan, ReportFormat::markdown));
  write("results.tex", report_text(workspace, plan, ReportFormat::latex));
  folder.commit();
  return final_path;
}

}  // namespace filo
