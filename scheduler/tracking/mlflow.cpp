#include "scheduler/tracking/mlflow.hpp"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdlib>
#include <map>

#include "base/hash.hpp"
#include "base/secrets.hpp"
#include "base/text.hpp"
#include "base/utf8.hpp"

namespace filo {
namespace {

// Of one call of runs/log-batch.
constexpr std::size_t most_metrics = 1000;
constexpr std::size_t most_params = 100;
constexpr std::size_t most_name = 250;
constexpr std::size_t most_value = 500;  // of a parameter, for servers of before 2.8; later ones take 6000

// Letters, digits, "_-. /": what MLflow takes in the name of a metric or parameter.
std::string mlflow_name(const std::string& name) {
  std::string safe = cut_text(name, most_name);
  for (char& c : safe) {
    const auto byte = static_cast<unsigned char>(c);
    const bool taken = byte >= 0x80 || (byte >= '0' && byte <= '9') || ((byte | 32) >= 'a' && (byte | 32) <= 'z') ||
                       std::string_view("_-. /").find(c) != std::string_view::npos;
    if (!taken) c = '_';
  }
  return safe;
}

std::int64_t milliseconds(double seconds) { return static_cast<std::int64_t>(std::llround(seconds * 1000)); }

std::string percent_encoded(const std::string& text) {
  std::string coded;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isalnum(byte) != 0 || c == '-' || c == '.' || c == '_' || c == '~') {
      coded += c;
    } else {
      coded += '%';
      coded += "0123456789ABCDEF"[byte >> 4];
      coded += "0123456789ABCDEF"[byte & 15];
    }
  }
  return coded;
}

// The server's own words, without what follows the first line.
std::string message_of(const HttpAnswer& answer) {
  const Json json = Json::parse(answer.body, nullptr, false);
  std::string message = json.is_object() ? text_of(json, "message", answer.body) : answer.body;
  message = printable(cut_text(message.substr(0, message.find('\n')), 300));
  return "HTTP " + std::to_string(answer.status) + (message.empty() ? "" : ": " + message);
}

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

const std::string& id_in(const std::optional<Json>& answer, const Json::json_pointer& place) {
  if (answer && answer->contains(place) && answer->at(place).is_string())
    return answer->at(place).get_ref<const std::string&>();
  throw SinkAway("tracking: MLflow", "found an answer without " + place.to_string() + ", expected one of its REST API");
}

}  // namespace

std::string mlflow_authorization() {
  const std::string token = environment("MLFLOW_TRACKING_TOKEN");
  if (!is_usable({"http://host", token, ""}))
    throw UsageError("tracking: MLFLOW_TRACKING_TOKEN", "found blanks or line breaks in it, expected a token alone");
  if (!token.empty()) return "Bearer " + token;
  const std::string user = environment("MLFLOW_TRACKING_USERNAME");
  return user.empty() ? "" : basic_authorization(user, environment("MLFLOW_TRACKING_PASSWORD"));
}

MlflowClient::MlflowClient(std::string uri, std::string authorization, double timeout_s)
    : uri_(std::move(uri)), authorization_(std::move(authorization)), timeout_s_(timeout_s) {
  while (uri_.ends_with('/')) uri_.pop_back();
  const auto path = uri_.find('/', uri_.find("://") + 3);
  target_.url = uri_.substr(0, path);
  prefix_ = (path == std::string::npos ? "" : uri_.substr(path)) + "/api/2.0/mlflow/";
}

std::optional<Json> MlflowClient::post(const std::string& path, const Json& body, bool repeatable) {
  return ask({.method = "POST", .path = prefix_ + path, .body = body.dump(), .authorization = authorization_},
             repeatable);
}

std::optional<Json> MlflowClient::get(const std::string& path_and_query) {
  return ask({.path = prefix_ + path_and_query, .authorization = authorization_}, true);
}

std::optional<Json> MlflowClient::ask(const HttpRequest& request, bool repeatable) {
  const std::string what = "tracking: MLflow at " + uri_;
  std::optional<HttpAnswer> answer;
  const bool kept_open = client_.is_open();
  if (kept_open) answer = client_.exchange(request, timeout_s_);
  const bool goes_on = !answer && (repeatable || !kept_open);
  if (goes_on && client_.open(target_, timeout_s_)) answer = client_.exchange(request, timeout_s_);
  if (!answer) throw SinkAway(what, "does not answer (" + client_.problem() + ")");
  const int status = answer->status;
  if (status == 401 || status == 403)
    throw SinkAway(what, message_of(*answer) +
                             "; expected MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and "
                             "MLFLOW_TRACKING_PASSWORD, in the environment");
  const Json json = Json::parse(answer->body, nullptr, false);
  if (status == 404 && json.is_object() && json.contains("error_code")) return std::nullopt;
  if (status >= 200 && status < 300 && json.is_object()) return json;
  const std::string problem = "answers " + request.path + " with " + message_of(*answer);
  if (status >= 400 && status < 500 && status != 404 && status != 408 && status != 429) throw Error(what, problem);
  throw SinkAway(what, problem);
}

MlflowSink::MlflowSink(const Workspace& workspace, std::shared_ptr<const Plan> plan, const TrackingSettings& settings,
                       std::string authorization)
    : workspace_(workspace.root().string()),
      plan_(std::move(plan)),
      uri_(settings.mlflow_uri),
      experiment_(settings.mlflow_experiment.empty() ? plan_->name : settings.mlflow_experiment),
      client_(uri_, std::move(authorization)) {}

std::string MlflowSink::name() const { return "mlflow-" + sha256_hex(uri_ + "\n" + experiment_).substr(0, 8); }

std::string MlflowSink::place() const { return "experiment " + experiment_ + " of MLflow at " + uri_; }

std::string MlflowSink::experiment_id(Json& shared_memory) {
  if (const std::string known = text_of(shared_memory, "experiment_id"); !known.empty()) return known;
  auto found = client_.get("experiments/get-by-name?experiment_name=" + percent_encoded(experiment_));
  std::string id;
  if (found)
    id = id_in(found, Json::json_pointer("/experiment/experiment_id"));
  else
    id =
        id_in(client_.post("experiments/create", {{"name", experiment_}}, false), Json::json_pointer("/experiment_id"));
  shared_memory["uri"] = uri_;  // for people
  shared_memory["experiment"] = experiment_;
  shared_memory["experiment_id"] = id;
  return id;
}

Json MlflowSink::tags_of(const TrackedRun& run, const std::string& token) const {
  Json tags = Json::array();
  const auto add = [&](const char* key, const std::string& value) {
    if (!value.empty()) tags.push_back({{"key", key}, {"value", value}});
  };
  add("mlflow.source.name", "filo");
  add("mlflow.user", environment("USER"));
  add("filo.run", token);
  add("filo.workspace", workspace_);
  add("filo.experiment", plan_->name);
  add("filo.trial", run.name);
  add("filo.stage.train", run.train);
  add("filo.stage.evaluate", run.key);
  return tags;
}

// The run's id; makes the run with its parameters where there is none yet.
std::string MlflowSink::run_id(const TrackedRun& run, Json& shared_memory, double begin) {
  const std::string experiment = experiment_id(shared_memory);
  const std::string token = text_of(shared_memory, "token") + "/" + run.key;
  const auto found = client_.post(
      "runs/search",
      {{"experiment_ids", {experiment}}, {"filter", "tags.`filo.run` = '" + token + "'"}, {"max_results", 1}});
  std::string id;
  if (found && found->contains("runs") && !found->at("runs").empty())
    id = id_in(found, Json::json_pointer("/runs/0/info/run_id"));
  else
    id = id_in(client_.post("runs/create",
                            {{"experiment_id", experiment},
                             {"run_name", cut_text(run.name, most_name)},
                             {"start_time", milliseconds(begin)},
                             {"tags", tags_of(run, token)}},
                            false),
               Json::json_pointer("/run/info/run_id"));
  const auto params = run_params(*plan_, run);
  for (std::size_t i = 0; i < params.size(); i += most_params) {
    Json some = Json::array();
    for (std::size_t j = i; j < std::min(params.size(), i + most_params); ++j)
      some.push_back({{"key", mlflow_name(params[j].first)}, {"value", cut_text(params[j].second, most_value)}});
    client_.post("runs/log-batch", {{"run_id", id}, {"params", some}});
  }
  return id;
}

void MlflowSink::tell(const TrackedRun& run, Json& memory, Json& shared_memory, const RunBatch& batch) {
  if (memory.is_null())
    memory = {{"run_id", run_id(run, shared_memory, batch.restart ? batch.restart_time : batch.points.front().time)}};
  const std::string id = memory.at("run_id");
  for (std::size_t i = 0; i < batch.points.size(); i += most_metrics) {
    Json metrics = Json::array();
    for (std::size_t j = i; j < std::min(batch.points.size(), i + most_metrics); ++j)
      metrics.push_back({{"key", mlflow_name(batch.points[j].name)},
                         {"value", batch.points[j].value},
                         {"timestamp", milliseconds(batch.points[j].time)},
                         {"step", batch.points[j].step}});
    const Json tags = {{{"key", "filo.attempt"}, {"value", std::to_string(batch.after.attempt)}}};
    if (!client_.post("runs/log-batch", {{"run_id", id}, {"metrics", metrics}, {"tags", tags}}))
      throw Error("tracking: MLflow at " + uri_, "knows no run " + id + " (" + run.name + ") any more");
  }
}

void MlflowSink::set_status(const TrackedRun& run, const Json& memory, RunStatus status, double time) {
  static const std::map<RunStatus, std::string> words = {{RunStatus::running, "RUNNING"},
                                                         {RunStatus::finished, "FINISHED"},
                                                         {RunStatus::failed, "FAILED"},
                                                         {RunStatus::killed, "KILLED"}};
  const std::string id = memory.at("run_id");
  Json body = {{"run_id", id}, {"status", words.at(status)}};
  if (status != RunStatus::running) body["end_time"] = milliseconds(time);
  if (!client_.post("runs/update", body))
    throw Error("tracking: MLflow at " + uri_, "knows no run " + id + " (" + run.name + ") any more");
}

}  // namespace filo
