#include "service/api_json.hpp"

#include <unistd.h>

#include <algorithm>
#include <fstream>

#include "scheduler/plan/axis_values.hpp"
#include "service/event_streams.hpp"
#include "workspace/metric_history.hpp"

namespace filo::service {
namespace {

namespace fs = std::filesystem;

int total(const std::map<std::string, int>& counts) {
  int sum = 0;
  for (const auto& [state, count] : counts) sum += count;
  return sum;
}

int count_of(const std::map<std::string, int>& counts, const std::string& state) {
  const auto found = counts.find(state);
  return found == counts.end() ? 0 : found->second;
}

Json optional_file(const fs::path& path) { return read_json_if_sound(path).value_or(Json()); }

Json size_of(const fs::path& path) {
  std::error_code error;
  const auto size = fs::file_size(path, error);
  return error ? Json() : Json(size);
}

Json modified(const fs::path& path) {
  std::error_code error;
  const auto time = fs::last_write_time(path, error);
  if (error) return nullptr;
  return std::chrono::duration<double>(std::chrono::file_clock::to_sys(time).time_since_epoch()).count();
}

// Evenly spread, the last one always.
Json series_json(const MetricSeries& series, std::size_t most) {
  std::vector<std::pair<std::int64_t, double>> points;
  for (const auto& [at, point] : series.points)
    if (point.value) points.emplace_back(at, *point.value);
  Json json = {{"unit", series.unit}, {"phase", series.phase}, {"name", series.name}, {"points", Json::array()}};
  const std::size_t stride = std::max<std::size_t>(1, (points.size() + most - 1) / most);
  for (std::size_t i = 0; i < points.size(); ++i)
    if (i % stride == 0 || i + 1 == points.size()) json["points"].push_back({points[i].first, points[i].second});
  return json;
}

std::string escaped_label(const std::string& text) {
  std::string escaped;
  for (const char c : text) {
    if (c == '\\' || c == '"') escaped += '\\';
    escaped += c == '\n' ? ' ' : c;
  }
  return escaped;
}

class Metrics {
 public:
  void family(const std::string& name, const std::string& type, const std::string& help) {
    text_ += "# HELP " + name + " " + help + "\n# TYPE " + name + " " + type + "\n";
    name_ = name;
  }
  void value(double number, const std::vector<std::pair<std::string, std::string>>& labels = {}) {
    text_ += name_;
    for (std::size_t i = 0; i < labels.size(); ++i)
      text_ += (i == 0 ? "{" : ",") + labels[i].first + "=\"" + escaped_label(labels[i].second) + "\"";
    text_ += (labels.empty() ? " " : "} ") + Json(number).dump() + "\n";
  }
  void one(const std::string& name, const std::string& type, const std::string& help, double number) {
    family(name, type, help);
    value(number);
  }
  std::string text() && { return std::move(text_); }

 private:
  std::string text_, name_;
};

double resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  double pages = 0, resident = 0;
  statm >> pages >> resident;
  return resident * static_cast<double>(sysconf(_SC_PAGESIZE));
}

}  // namespace

const std::vector<StageState>& all_states() {
  static const std::vector<StageState> states = {StageState::waiting, StageState::queued,   StageState::running,
                                                 StageState::done,    StageState::failed,   StageState::blocked,
                                                 StageState::stopped, StageState::cancelled};
  return states;
}

Json experiment_json(const std::string& name, const ExperimentView& experiment) {
  const auto progress = [](const std::map<std::string, int>& counts) -> Json {
    return {{"total", total(counts)}, {"done", count_of(counts, "done")}, {"states", counts}};
  };
  return {{"name", name},
          {"revision", experiment.revision},
          {"active", experiment.active},
          {"trials", progress(experiment.trial_counts)},
          {"stages", progress(experiment.stage_counts)}};
}

Json trial_json(const ExperimentView& experiment, std::size_t index) {
  const PlannedTrial& trial = experiment.plan->plan.trials[index];
  const auto [train, evaluate] = experiment.plan->trials[index];
  const StageStatus& status = (*experiment.statuses)[evaluate];
  const StageStatus& training = (*experiment.statuses)[train];
  const auto& metrics = (*experiment.metrics)[index];
  return {{"trial", index},
          {"experiment", trial.experiment},
          {"fold", trial.fold},
          {"axis_values", trial.axis_values},
          {"label", describe_axis_values(trial.axis_values)},
          {"state", to_string(trial_state(experiment, index))},
          {"reason", status.reason.empty() ? training.reason : status.reason},
          {"train", trial.train},
          {"evaluate", trial.evaluate},
          {"metrics", metrics ? metrics->metrics : Json()}};
}

Json stage_json(const View::Found& found, const EventHub& hub) {
  const PlannedStage& stage = found.experiment->plan->plan.stages[found.position];
  const StageStatus& status = (*found.experiment->statuses)[found.position];
  Json json = {{"stage", stage.key},
               {"kind", to_string(stage.kind)},
               {"label", stage.label},
               {"state", to_string(status.state)},
               {"attempt", status.attempt},
               {"failures", status.counts.failures},
               {"requeues", status.counts.requeues},
               {"reason", status.reason},
               {"where", status.where},
               {"progress", nullptr}};
  if (status.state == StageState::running)
    if (const auto latest = hub.latest(stage.key); latest && latest->attempt == status.attempt)
      json["progress"] = {{"text", latest->text}, {"done", latest->done}, {"time", latest->time}};
  return json;
}

Json stage_details_json(const ApiContext& context, const View& view, const std::vector<View::Found>& found) {
  const PlannedStage& stage = found.front().experiment->plan->plan.stages[found.front().position];
  const StageStatus& status = (*found.front().experiment->statuses)[found.front().position];
  Json json = stage_json(found.front(), context.hub);
  json["experiments"] = Json::array();
  for (const auto& one : found) json["experiments"].push_back(one.name);
  json["inputs"] = Json::array();
  for (const auto& input : stage.inputs)
    if (const auto needed = view.find(input); !needed.empty())
      json["inputs"].push_back(stage_json(needed.front(), context.hub));
  json["resources"] = to_json(stage.resources);
  json["resources"].erase("attempts");
  json["counts"] = {{"failures", status.counts.failures},
                    {"requeues", status.counts.requeues},
                    {"timeouts", status.counts.timeouts},
                    {"out_of_memory", status.counts.out_of_memory}};
  json["limits"] = to_json(stage.resources.attempts);
  json["request"] = optional_file(context.workspace.request_file(stage.key));
  json["spec"] = optional_file(context.workspace.spec_file(stage.key));
  json["result"] = nullptr;
  if (const auto result = context.workspace.result(stage.key, stage.kind))
    json["result"] = {{"attempt", result->attempt},
                      {"seconds", result->seconds},
                      {"metrics", result->metrics},
                      {"artifacts", result->artifacts}};
  const bool troubled = status.state != StageState::done && status.counts.failures > 0;
  json["log_tail"] = troubled ? context.workspace.log_tail(stage.key, status.attempt, 15) : "";
  return json;
}

Json attempts_json(const Workspace& workspace, const std::string& key) {
  Json attempts = Json::array();
  for (int attempt = 1; attempt <= workspace.newest_attempt(key); ++attempt) {
    attempts.push_back({{"attempt", attempt},
                        {"claim", optional_file(workspace.claim_file(key, attempt))},
                        {"end", optional_file(workspace.outcome_file(key, attempt))},
                        {"ended", modified(workspace.outcome_file(key, attempt))},
                        {"log_bytes", size_of(workspace.log_file(key, attempt))},
                        {"events_bytes", size_of(workspace.events_file(key, attempt))}});
  }
  return attempts;
}

Json curves_json(const Workspace& workspace, const std::string& key, std::size_t points) {
  MetricHistory history;
  EventPosition last;
  for (int attempt = 1; attempt <= workspace.newest_attempt(key); ++attempt) {
    EventReader file(workspace.events_file(key, attempt), attempt);
    last = {attempt, -1};
    for (auto lines = file.read_lines(); !lines.empty(); lines = file.read_lines())
      for (const auto& line : lines) {
        history.add(Json::parse(line.text));
        last.sequence = std::max(last.sequence, line.sequence);
      }
  }
  Json series = Json::array();
  for (const auto& one : history.series())
    if (Json json = series_json(one, points); !json["points"].empty()) series.push_back(std::move(json));
  return {{"series", std::move(series)}, {"last_event_id", last.attempt == 0 ? Json() : Json(event_id(last))}};
}

std::string prometheus_text(const ApiContext& context) {
  const auto view = context.monitor.view();
  const auto& requests = context.requests;
  const auto& passes = context.passes;
  Metrics metrics;
  using Counts = std::map<std::string, int>;
  const auto by_state = [&](const char* name, const char* help, Counts ExperimentView::*counts) {
    metrics.family(name, "gauge", help);
    for (const auto& [experiment, shown] : view->experiments)
      for (const StageState state : all_states())
        metrics.value(count_of(*shown.*counts, to_string(state)),
                      {{"experiment", experiment}, {"state", to_string(state)}});
  };
  by_state("filo_stages", "Stages of an experiment by state.", &ExperimentView::stage_counts);
  by_state("filo_trials", "Trials of an experiment by state.", &ExperimentView::trial_counts);
  const auto& events = context.hub.counters();
  metrics.family("filo_events_total", "counter", "Workers' events taken in, by the way they came.");
  metrics.value(static_cast<double>(events.posted), {{"source", "post"}});
  metrics.value(static_cast<double>(events.from_files), {{"source", "file"}});
  const auto counter = [&](const char* name, const char* help, std::uint64_t value) {
    metrics.one(name, "counter", help, static_cast<double>(value));
  };
  counter("filo_event_duplicates_total", "Events that had come before.", events.duplicates);
  counter("filo_http_requests_total", "HTTP requests.", requests.requests);
  counter("filo_http_malformed_total", "Requests that were no valid HTTP or exceeded a limit.", requests.malformed);
  counter("filo_http_refused_tokens_total", "Requests without the token.", requests.refused_tokens);
  counter("filo_http_connections_total", "Connections accepted.", requests.connections);
  counter("filo_http_refused_connections_total", "Connections beyond the limit.", requests.refused_connections);
  counter("filo_http_timeouts_total", "Connections closed because the other side was too slow.", requests.timeouts);
  const auto gauge = [&](const char* name, const char* help, double value) { metrics.one(name, "gauge", help, value); };
  gauge("filo_http_open_connections", "Connections open now.", static_cast<double>(requests.open_connections));
  gauge("filo_http_open_streams", "Event streams open now.", static_cast<double>(requests.open_streams));
  counter("filo_passes_total", "Reconcile passes.", passes.passes);
  counter("filo_failed_passes_total", "Reconcile passes that ended with an error.", passes.failed_passes);
  gauge("filo_pass_seconds", "Duration of the last reconcile pass.", passes.pass_seconds);
  gauge("filo_last_pass_time_seconds", "When the last pass ended, since 1970.", view->time);
  gauge("process_resident_memory_bytes", "Resident memory.", resident_bytes());
  return std::move(metrics).text();
}

}  // namespace filo::service
