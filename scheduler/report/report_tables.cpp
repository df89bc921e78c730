#include "scheduler/report/report_tables.hpp"

#include "base/text.hpp"
#include "scheduler/control/search.hpp"
#include "scheduler/report/formats.hpp"
#include "settings/metrics.hpp"
#include "workspace/artifacts.hpp"

namespace filo {
namespace {

std::string value_text(const std::optional<double>& value) { return value ? formatted(*value, "%.4g") : "-"; }

// A search's draws, best first, however many there are: who asks for the report wants to see which one.
TextTable search_table(const Workspace& workspace, const Plan& plan, const std::string& experiment) {
  const SearchSettings& search = plan.searches.at(experiment);
  TextTable table{.title = experiment + ": search by " + search.metric, .columns = {"place"}, .rows = {}};
  for (const auto& dimension : search.space)  // "learning_rate.mdci": the section alone says nothing
    table.columns.push_back(dimension.key.substr(dimension.key.rfind('.', dimension.key.rfind('.') - 1) + 1));
  table.columns.insert(table.columns.end(), {"fold", "state", "after", search.metric});
  for (const auto& metric : main_metrics()) table.columns.push_back(metric_title(metric) + " (%)");
  table.columns.push_back("why stopped");
  int rank = 0;
  for (const auto& outcome : search_outcomes(workspace, plan, experiment)) {
    std::vector<std::string> row = {std::to_string(++rank)};
    for (const auto& dimension : search.space) {
      const auto value = outcome.trial->axis_values.find(dimension.key);
      row.push_back(value == outcome.trial->axis_values.end() ? "-" : value->second.dump());
    }
    row.push_back(outcome.trial->fold);
    row.push_back(outcome.state);
    row.push_back(outcome.resource == 0
                      ? "-"
                      : std::to_string(outcome.resource) + " " + search.unit + (outcome.resource == 1 ? "" : "s"));
    row.push_back(value_text(outcome.last));
    const auto result = workspace.result(outcome.trial->evaluate, StageKind::evaluate);
    for (const auto& metric : main_metrics())
      row.push_back(to_text({.mean = result ? percent_of(result->metrics, metric) : std::nullopt}));
    row.push_back(outcome.reason);
    table.rows.push_back(std::move(row));
  }
  return table;
}

}  // namespace

std::vector<ReportTable> report_tables(const Workspace& workspace, const Plan& plan,
                                       const std::vector<TrialResult>& results) {
  std::vector<ReportTable> tables;
  for (auto& table : result_tables(plan, results)) tables.emplace_back(std::move(table));
  for (const auto& [experiment, search] : plan.searches) tables.emplace_back(search_table(workspace, plan, experiment));
  return tables;
}

Json search_json(const Workspace& workspace, const Plan& plan, const std::string& experiment) {
  const SearchSettings& search = plan.searches.at(experiment);
  Json json = {{"experiment", experiment}, {"metric", search.metric}, {"unit", search.unit}, {"draws", Json::array()}};
  for (const auto& outcome : search_outcomes(workspace, plan, experiment))
    json["draws"].push_back({{"axis_values", outcome.trial->axis_values},
                             {"fold", outcome.trial->fold},
                             {"state", outcome.state},
                             {"after", outcome.resource},
                             {"last", outcome.last ? Json(*outcome.last) : Json()},
                             {"reason", outcome.reason},
                             {"train", outcome.trial->train},
                             {"evaluate", outcome.trial->evaluate}});
  return json;
}

std::optional<std::string> checkpoint_of(const Workspace& workspace, const PlannedTrial& trial) {
  const auto folder = kept_checkpoint(workspace, trial.train);
  return folder ? std::optional(folder->string()) : std::nullopt;
}

}  // namespace filo
