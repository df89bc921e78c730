// An executor whose jobs end when the test says so.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "scheduler/executors/executor.hpp"

namespace filo {

// `starts` counts how often each stage was started.
class FakeExecutor : public Executor {
 public:
  explicit FakeExecutor(std::string owner = "me", std::string name = "fake")
      : owner_(std::move(owner)), name_(std::move(name)) {}

  std::vector<Job> jobs() override {
    ++calls;
    if (silent) throw Error("fake", "does not answer");
    reserved.clear();
    return jobs_;
  }
  std::string name() const override { return name_; }
  ResourceSettings allowed(const ResourceSettings& wanted) const override {
    ResourceSettings resources = wanted;
    if (!longest.empty()) resources.time = std::min(resources.time, longest);
    return resources;
  }
  bool reserve(const ResourceSettings& resources) override {
    reserved.push_back(resources);
    return static_cast<int>(running() + reserved.size()) <= room;
  }
  std::vector<Json> prepare(const std::vector<StartRequest>& requests) override {
    return std::vector<Json>(requests.size(), Json{{"executor", name_}, {"host", owner_}});
  }
  bool may_be_running(const Json& claim, const std::function<double()>&) const override {
    return claim.value("host", "") == alive_owner;
  }
  double result_grace_s() const override { return grace_s; }
  std::vector<std::string> start(const std::vector<StartRequest>& requests, const std::vector<Json>& claims) override {
    EXPECT_EQ(requests.size(), claims.size());
    ++batches;
    for (const auto& request : requests) {
      if (refuse) continue;
      ++starts[request.stage->key];
      given[request.stage->key] = request.resources;
      jobs_.push_back({.stage = request.stage->key, .attempt = request.attempt});
    }
    reserved.clear();
    return std::vector<std::string>(requests.size(), refuse ? "fake: cannot start" : "");
  }
  void stop(const std::string& stage, int attempt) override { ask(stage, attempt, stopped); }
  void kill(const std::string& stage, int attempt) override { ask(stage, attempt, killed); }
  void forget(const std::string& stage, int attempt) override {
    std::erase_if(jobs_, [&](const Job& job) { return job.stage == stage && job.attempt == attempt; });
  }

  std::size_t running() const {
    return static_cast<std::size_t>(
        std::count_if(jobs_.begin(), jobs_.end(), [](const Job& job) { return job.state != JobState::ended; }));
  }
  void end(const std::string& stage, int exit_code, EndCause cause = EndCause::exited, int signal = 0) {
    for (auto& job : jobs_)
      if (job.stage == stage && job.state != JobState::ended) {
        job.state = JobState::ended;
        job.cause = cause;
        job.exit_code = exit_code;
        job.signal = signal;
      }
  }
  void vanish() { jobs_.clear(); }
  void list(const Job& job) { jobs_.push_back(job); }

  std::map<std::string, int> starts;
  std::map<std::string, ResourceSettings> given;  // of the latest start
  std::string longest;                            // time that it gives; "": no limit
  double grace_s = 0;
  int room = 100;
  int calls = 0;
  int batches = 0;
  bool refuse = false;
  bool silent = false;
  std::vector<ResourceSettings> reserved;
  std::vector<std::string> stopped;  // "KEY ATTEMPT"
  std::vector<std::string> killed;
  std::string alive_owner;

 private:
  void ask(const std::string& stage, int attempt, std::vector<std::string>& asked) {
    asked.push_back(stage + " " + std::to_string(attempt));
    for (auto& job : jobs_)
      if (job.stage == stage && job.attempt == attempt) job.asked_to_stop = true;
  }

  std::string owner_;
  std::string name_;
  std::vector<Job> jobs_;
};

}  // namespace filo
