// What the server shows of a workspace: one consistent copy, never changed once it is published.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "scheduler/control/reconcile.hpp"
#include "scheduler/plan/plan.hpp"
#include "scheduler/report/tables.hpp"

namespace filo::service {

// A plan with what is looked up in it often. Shared by all views until plan.json changes.
struct IndexedPlan {
  explicit IndexedPlan(std::shared_ptr<const Plan> plan);
  IndexedPlan(const IndexedPlan&) = delete;
  IndexedPlan& operator=(const IndexedPlan&) = delete;

  std::shared_ptr<const Plan> shared;
  const Plan& plan;
  std::unordered_map<std::string_view, std::uint32_t> position;  // of a stage in plan.stages; keys are the plan's own
  struct TrialStages {
    std::uint32_t train = 0;
    std::uint32_t evaluate = 0;
  };
  std::vector<TrialStages> trials;  // positions, in plan.trials' order
};

// Metrics of finished trials, without those of single classes: those are read from result.json when asked for.
using TrialMetrics = std::vector<std::shared_ptr<const StageResult>>;  // null: no result yet

struct ExperimentView {
  std::shared_ptr<const IndexedPlan> plan;
  std::shared_ptr<const std::vector<StageStatus>> statuses;  // in the plan's order
  std::shared_ptr<const TrialMetrics> metrics;               // in the order of the trials
  std::shared_ptr<const Json> tables;                        // array of to_json(ResultTable)
  std::map<std::string, int> stage_counts;                   // state -> number, zeros left out
  std::map<std::string, int> trial_counts;
  bool active = false;         // looked after by this or another coordinator, or by a `filo run`
  std::uint64_t revision = 0;  // grows with every change
};

// The state of a trial, as `filo status` counts it.
StageState trial_state(const ExperimentView& experiment, std::size_t trial);

struct View {
  std::map<std::string, std::shared_ptr<const ExperimentView>> experiments;
  std::uint64_t revision = 0;
  double time = 0;      // of the last pass, seconds since 1970
  std::string problem;  // why the last pass failed; "" when it did not

  struct Found {
    const ExperimentView* experiment = nullptr;
    std::string_view name;  // of the experiment
    std::uint32_t position = 0;
  };
  // The stage in every experiment that needs it; empty for an unknown key.
  std::vector<Found> find(std::string_view key) const;
};

}  // namespace filo::service
