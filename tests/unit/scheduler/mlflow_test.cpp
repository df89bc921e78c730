// What an MLflow server is asked, by a small one that keeps what it is told: tests/integration/tracking.py has the real
// one.
#include "scheduler/tracking/mlflow.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "scheduler/tracking/tracker.hpp"
#include "tests/unit/support/loopback_server.hpp"
#include "tests/unit/support/tracked_experiment.hpp"

namespace filo {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

const auto never = [] { return false; };

std::string answer(int status, const Json& body) {
  const std::string text = body.dump();
  return "HTTP/1.1 " + std::to_string(status) + " X\r\nContent-Length: " + std::to_string(text.size()) + "\r\n\r\n" +
         text;
}

// experiments, runs, and what is told of them; refuses what the real one refuses.
struct FakeMlflow {
  struct Run {
    Json created;
    std::map<std::string, std::string> params{};
    std::set<std::string> points{};  // a point is kept once, as in MLflow's database
    std::string status = "RUNNING";
  };
  std::map<std::string, std::string> experiments;  // name -> id
  std::vector<Run> runs;
  std::size_t most_metrics = 0;
  int lose_answers_to_create = 0;
  int refuse_with = 0;

  std::string operator()(const LoopbackServer::Request& request) {
    const std::string line = request.head.substr(0, request.head.find("\r\n"));
    const Json body = Json::parse(request.body, nullptr, false);
    const auto is = [&](const char* path) {
      return line.find(std::string("/mlf/api/2.0/mlflow/") + path) != std::string::npos;
    };
    if (refuse_with != 0) return answer(refuse_with, {{"error_code", "X"}, {"message", "not you"}});
    if (is("experiments/get-by-name?experiment_name=a%20b"))
      return experiments.empty() ? answer(404, {{"error_code", "RESOURCE_DOES_NOT_EXIST"}})
                                 : answer(200, {{"experiment", {{"experiment_id", experiments.at("a b")}}}});
    if (is("experiments/create")) return answer(200, {{"experiment_id", experiments[body.at("name")] = "7"}});
    if (is("runs/search")) return search(body);
    if (is("runs/create")) {
      runs.push_back({.created = body});
      if (lose_answers_to_create-- > 0) return "nonsense\r\n\r\n";
      return answer(200, {{"run", {{"info", {{"run_id", std::to_string(runs.size() - 1)}}}}}});
    }
    Run& run = runs.at(std::stoul(body.at("run_id").get<std::string>()));
    if (is("runs/update")) run.status = body.at("status");
    for (const auto& param : body.value("params", Json::array())) run.params[param.at("key")] = param.at("value");
    const Json metrics = body.value("metrics", Json::array());
    most_metrics = std::max(most_metrics, metrics.size());
    if (metrics.size() > 1000 || body.value("params", Json::array()).size() > 100)
      return answer(400, {{"message", "too many"}});
    for (const auto& metric : metrics) run.points.insert(metric.dump());
    return answer(200, Json::object());
  }

  std::string search(const Json& body) const {
    const std::string filter = body.at("filter");
    for (std::size_t i = 0; i < runs.size(); ++i)
      for (const auto& tag : runs[i].created.at("tags"))
        if (filter == "tags.`" + tag.at("key").get<std::string>() + "` = '" + tag.at("value").get<std::string>() + "'")
          return answer(200, {{"runs", {{{"info", {{"run_id", std::to_string(i)}}}}}}});
    return answer(200, Json::object());
  }
};

class Mlflow : public TrackedExperiment {
 protected:
  Mlflow() { setenv("MLFLOW_TRACKING_TOKEN", "the-secret", 1); }
  ~Mlflow() override { unsetenv("MLFLOW_TRACKING_TOKEN"); }

  Tracker tracker(std::size_t batch_points = 1000) {
    const TrackingSettings settings{.mlflow_uri = server.url() + "/mlf/", .mlflow_experiment = "a b"};
    return {workspace, plan, std::move(make_sinks(workspace, plan, settings).at(0)), {.batch_points = batch_points}};
  }

  FakeMlflow mlflow;
  LoopbackServer server{[this](const LoopbackServer::Request& request) { return mlflow(request); }};
};

TEST_F(Mlflow, ARunHasParametersTagsPointsAndAnEnd) {
  start_attempt();
  step(1, 0.5);
  Tracker one = tracker();
  ASSERT_EQ(one.look(states(), never).trouble, "");
  ASSERT_EQ(mlflow.runs.size(), 1u);
  EXPECT_EQ(mlflow.runs[0].created.at("experiment_id"), "7");
  EXPECT_EQ(mlflow.runs[0].created.at("run_name"), "a->b");
  EXPECT_EQ(mlflow.runs[0].created.at("start_time"), 1001000);
  EXPECT_EQ(mlflow.runs[0].params.at("model.image_size"), "112");
  EXPECT_THAT(mlflow.runs[0].created.at("tags").dump(), HasSubstr(plan->trials[0].train));
  EXPECT_EQ(*mlflow.runs[0].points.begin(), R"({"key":"main/loss","step":1,"timestamp":1001000,"value":0.5})");
  finish({{"image_auroc", 0.75}});
  one.look(states(), never);
  EXPECT_EQ(mlflow.runs[0].points.size(), 2u);
  EXPECT_EQ(mlflow.runs[0].status, "FINISHED");
}

// Guards the secret: it travels in a header, and stands in no file.
TEST_F(Mlflow, TheTokenIsSentAndNeverWritten) {
  start_attempt();
  step(1, 0.5);
  tracker().look(states(), never);
  for (const auto& request : server.requests())
    EXPECT_THAT(request.head, HasSubstr("\r\nAuthorization: Bearer the-secret"));
  for (const auto& entry : std::filesystem::recursive_directory_iterator(scratch.folder)) {
    if (!entry.is_regular_file()) continue;
    EXPECT_EQ(read_file(entry.path()).find("the-secret"), std::string::npos) << entry.path();
  }
}

// Guards against doubled runs: the server made it, and the answer was lost.
TEST_F(Mlflow, ARunWhoseAnswerWasLostIsNotMadeTwice) {
  start_attempt();
  step(1, 0.5);
  mlflow.lose_answers_to_create = 1;
  EXPECT_NE(tracker().look(states(), never).trouble, "");
  EXPECT_EQ(tracker().look(states(), never, true).trouble, "");
  EXPECT_EQ(mlflow.runs.size(), 1u);
  EXPECT_EQ(mlflow.runs[0].points.size(), 1u);
}

// Guards exactly-once over a kill: what was told and not noted is told again, and is the same points.
TEST_F(Mlflow, AKillBetweenTellingAndNotingDoublesNothing) {
  start_attempt();
  step(1, 0.5);
  Tracker(tracker()).look(states(), never);
  const auto cursor = workspace.tracking_file("test", tracker().sink().name());
  const std::string before = read_file(cursor);
  step(2, 0.25);
  tracker().look(states(), never);
  write_file_atomically(cursor, before);
  tracker().look(states(), never);
  EXPECT_EQ(mlflow.runs.size(), 1u);
  EXPECT_EQ(mlflow.runs[0].points.size(), 2u);
}

TEST_F(Mlflow, AtMostAThousandMetricsGoIntoACall) {
  start_attempt();
  for (int at = 1; at <= 2500; ++at) step(at, 0.5);
  ASSERT_EQ(tracker(2500).look(states(), never).trouble, "");
  EXPECT_EQ(mlflow.runs[0].points.size(), 2500u);
  EXPECT_EQ(mlflow.most_metrics, 1000u);
}

TEST_F(Mlflow, WhoIsRefusedIsToldWhichVariablesCount) {
  start_attempt();
  step(1, 0.5);
  mlflow.refuse_with = 401;
  EXPECT_THAT(tracker().look(states(), never).trouble,
              ::testing::AllOf(HasSubstr("HTTP 401: not you"), HasSubstr("MLFLOW_TRACKING_TOKEN")));
  mlflow.refuse_with = 0;
  tracker().look(states(), never, true);
  EXPECT_EQ(mlflow.runs.at(0).points.size(), 1u);
}

TEST_F(Mlflow, NothingIsSaidOfTrialsThatHaveNotBegun) {
  EXPECT_TRUE(tracker().look(states(), never).caught_up);
  EXPECT_THAT(server.requests(), IsEmpty());
}

TEST(MlflowAuthorization, IsReadFromTheEnvironment) {
  EXPECT_EQ(mlflow_authorization(), "");
  setenv("MLFLOW_TRACKING_USERNAME", "a", 1);
  setenv("MLFLOW_TRACKING_PASSWORD", "b", 1);
  EXPECT_EQ(mlflow_authorization(), "Basic YTpi");
  setenv("MLFLOW_TRACKING_TOKEN", "t", 1);
  EXPECT_EQ(mlflow_authorization(), "Bearer t");
  setenv("MLFLOW_TRACKING_TOKEN", "t\r\nEvil: 1", 1);
  EXPECT_THROW(mlflow_authorization(), UsageError);
  for (const char* name : {"MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"})
    unsetenv(name);
}

TEST(MlflowUri, HoldsNoCredentials) {
  for (const char* uri : {"http://127.0.0.1:5000", "https://mlflow.example.org", "https://host/mlflow/"})
    EXPECT_TRUE(is_mlflow_uri(uri)) << uri;
  for (const char* uri :
       {"", "mlruns", "file:///tmp/mlruns", "databricks", "https://user:secret@host", "https://host?a=b"})
    EXPECT_FALSE(is_mlflow_uri(uri)) << uri;
}

}  // namespace
}  // namespace filo
