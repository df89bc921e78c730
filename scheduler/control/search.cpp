#include "scheduler/control/search.hpp"

#include <algorithm>
#include <map>
#include <set>

#include "base/text.hpp"
#include "workspace/metric_history.hpp"

namespace filo {
namespace {

bool is_better(const SearchSettings& search, const std::optional<double>& a, const std::optional<double>& b) {
  if (!a || !b) return a.has_value();
  return search.maximize ? *a > *b : *a < *b;
}

std::string short_number(const std::optional<double>& value) {
  return value ? formatted(*value, "%.4g") : "not a number";
}

std::string ordinal(std::size_t number) {
  const std::size_t last = number % 100 / 10 == 1 ? 0 : number % 10;
  return std::to_string(number) + (last == 1 ? "st" : last == 2 ? "nd" : last == 3 ? "rd" : "th");
}

// Trainings that compete, each set once: trials that differ only at evaluation share theirs.
std::set<std::set<std::string>> competitions(const Plan& plan, const std::string& experiment) {
  std::map<std::int64_t, std::set<std::string>> groups;
  for (const auto& trial : plan.trials)
    if (trial.experiment == experiment && trial.search_group >= 0) groups[trial.search_group].insert(trial.train);
  std::set<std::set<std::string>> distinct;
  for (auto& [group, stages] : groups) distinct.insert(std::move(stages));
  return distinct;
}

}  // namespace

std::vector<std::int64_t> rungs(const SearchSettings& search, std::int64_t up_to) {
  std::vector<std::int64_t> list;
  for (std::int64_t rung = search.min; rung <= up_to && (search.max == 0 || rung < search.max);
       rung *= search.reduction)
    list.push_back(rung);
  return list;
}

std::vector<RungStop> asha_stops(const SearchSettings& search, std::vector<MetricReport> reports) {
  std::stable_sort(reports.begin(), reports.end(), [](const MetricReport& a, const MetricReport& b) {
    return std::tie(a.time, a.stage, a.resource) < std::tie(b.time, b.stage, b.resource);
  });
  std::int64_t furthest = 0;
  for (const auto& report : reports) furthest = std::max(furthest, report.resource);
  const auto levels = rungs(search, furthest);
  std::vector<RungStop> stops;
  std::map<std::int64_t, std::vector<std::optional<double>>> reported;
  std::set<std::pair<std::string, std::int64_t>> seen;
  std::map<std::string, std::int64_t> stopped_at;
  for (const auto& report : reports) {
    if (!std::binary_search(levels.begin(), levels.end(), report.resource)) continue;
    if (stopped_at.contains(report.stage) || !seen.emplace(report.stage, report.resource).second) continue;
    auto& values = reported[report.resource];
    const auto rank = 1 + static_cast<std::size_t>(std::count_if(values.begin(), values.end(), [&](const auto& other) {
                        return !is_better(search, report.value, other);
                      }));
    values.push_back(report.value);
    const auto reduction = static_cast<std::size_t>(search.reduction);
    if (values.size() < reduction || rank <= values.size() / reduction) continue;
    stopped_at[report.stage] = report.resource;
    stops.push_back({report.stage, report.resource, report.value, rank, values.size()});
  }
  return stops;
}

std::vector<MetricReport> metric_reports(const Workspace& workspace, const SearchSettings& search,
                                         const std::string& train) {
  std::vector<MetricReport> reports;
  for (const auto& [resource, point] : metric_points(workspace, train, search.unit, "main", search.metric))
    reports.push_back({.stage = train, .resource = resource, .time = point.time, .value = point.first_value});
  return reports;
}

std::vector<StopDecision> search_decisions(const Workspace& workspace, const Plan& plan) {
  std::vector<StopDecision> decisions;
  std::set<std::string> decided;
  for (const auto& [experiment, search] : plan.searches) {
    if (search.method != SearchMethod::asha) continue;
    for (const auto& stages : competitions(plan, experiment)) {
      std::vector<MetricReport> reports;
      for (const auto& stage : stages) {
        const auto own = metric_reports(workspace, search, stage);
        reports.insert(reports.end(), own.begin(), own.end());
      }
      for (const auto& stop : asha_stops(search, std::move(reports))) {
        if (decided.contains(stop.stage) || workspace.request(stop.stage) ||
            workspace.result(stop.stage, StageKind::train))
          continue;
        decided.insert(stop.stage);
        decisions.push_back({stop.stage, search.metric + " " + short_number(stop.value) + " after " +
                                             std::to_string(stop.rung) + " " + search.unit +
                                             (stop.rung == 1 ? "" : "s") + " is " + ordinal(stop.rank) + " of " +
                                             std::to_string(stop.reported)});
      }
    }
  }
  return decisions;
}

std::vector<SearchOutcome> search_outcomes(const Workspace& workspace, const Plan& plan,
                                           const std::string& experiment) {
  const SearchSettings& search = plan.searches.at(experiment);
  std::vector<SearchOutcome> outcomes;
  std::map<std::string, SearchOutcome> by_training;  // read once
  for (const auto& trial : plan.trials) {
    if (trial.experiment != experiment) continue;
    auto known = by_training.find(trial.train);
    if (known == by_training.end()) {
      SearchOutcome outcome;
      const auto request = workspace.request(trial.train);
      outcome.state = workspace.result(trial.train, StageKind::train) ? "done"
                      : request && request->action == "stop"          ? "stopped"
                      : request && request->action == "cancel"        ? "cancelled"
                      : workspace.newest_attempt(trial.train) > 0     ? "started"
                                                                      : "waiting";
      if (request) outcome.reason = request->reason;
      if (const auto points = metric_points(workspace, trial.train, search.unit, "main", search.metric);
          !points.empty()) {
        outcome.resource = points.rbegin()->first;
        outcome.last = points.rbegin()->second.value;
      }
      known = by_training.emplace(trial.train, outcome).first;
    }
    SearchOutcome outcome = known->second;
    outcome.trial = &trial;
    outcomes.push_back(std::move(outcome));
  }
  std::stable_sort(outcomes.begin(), outcomes.end(), [&](const SearchOutcome& a, const SearchOutcome& b) {
    if (a.resource != b.resource) return a.resource > b.resource;
    return is_better(search, a.last, b.last);
  });
  return outcomes;
}

}  // namespace filo
