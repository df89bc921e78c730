// Runs on an MLflow server, over its REST API 2.0 (https://mlflow.org/docs/latest/api_reference/rest-api.html).
#pragma once

#include <utility>
#include <vector>

#include "base/http_client.hpp"
#include "scheduler/tracking/sink.hpp"

namespace filo {

// One endpoint after another, over one connection.
class MlflowClient {
 public:
  // `uri`: is_mlflow_uri(). `authorization`: the header's value, "" for none.
  MlflowClient(std::string uri, std::string authorization, double timeout_s = 10);

  // `path` after ".../api/2.0/mlflow/", as in "runs/create". Unset: HTTP 404, there is no such thing. Throws SinkAway
  // where no answer comes, or the server does not know us, has no time or an error of its own; Error where it refuses
  // what is asked (other 4xx), with its message. `repeatable`: asked again on a new connection where the old one ends.
  std::optional<Json> post(const std::string& path, const Json& body, bool repeatable = true);
  std::optional<Json> get(const std::string& path_and_query);

 private:
  std::optional<Json> ask(const HttpRequest& request, bool repeatable);

  std::string uri_, authorization_;
  HttpTarget target_;
  std::string prefix_;
  double timeout_s_;
  HttpClient client_;
};

// "Bearer ..." of MLFLOW_TRACKING_TOKEN, else "Basic ..." of MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, as
// MLflow's own clients read them; "" where none is set. Throws UsageError on what no header can hold.
std::string mlflow_authorization();

// A run that was begun is found by its tag filo.run, which holds a random number of the workspace's: one that was made
// while the answer was lost, or this process died, is not made twice. Points that are told twice are one for the
// server: it keeps a point by name, time, step and value.
class MlflowSink : public RunSink {
 public:
  MlflowSink(const Workspace& workspace, std::shared_ptr<const Plan> plan, const TrackingSettings& settings,
             std::string authorization);

  std::string name() const override;
  std::string place() const override;
  void tell(const TrackedRun& run, Json& memory, Json& shared_memory, const RunBatch& batch) override;
  void set_status(const TrackedRun& run, const Json& memory, RunStatus status, double time) override;
  bool is_lost(const Json&) const override { return false; }

 private:
  std::string experiment_id(Json& shared_memory);
  Json tags_of(const TrackedRun& run, const std::string& token) const;
  std::string run_id(const TrackedRun& run, Json& shared_memory, double begin);

  std::string workspace_;  // its path, for people
  std::shared_ptr<const Plan> plan_;
  std::string uri_, experiment_;
  MlflowClient client_;
};

}  // namespace filo
