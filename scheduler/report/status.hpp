// What `filo status` tells of an experiment.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "scheduler/control/reconcile.hpp"

namespace filo {

// A stage's status by its key; null for a key that is not of the plan.
using StatusOf = std::function<const StageStatus*(std::string_view key)>;

// The state of a trial: its evaluation's; while that waits, how far its training has come; and while that waits too,
// how far what they need has come.
StageState trial_state(const PlannedStage& train, const PlannedStage& evaluate, const StatusOf& status_of);

// Jobs of clusters as their queues have them, for who only looks. Each cluster is asked every 10 s at most.
class QueueView {
 public:
  // Puts what the queue says over `statuses` of an active experiment on Slurm, which come from the files alone: pending
  // or running, and where. Returns why the cluster could not be asked, "" when it was or need not be.
  std::string update(const Workspace& workspace, const Plan& plan, std::vector<StageStatus>& statuses);

 private:
  struct Answer {
    std::chrono::steady_clock::time_point time;
    std::vector<Job> jobs;
    std::string problem;
  };
  const Answer& ask(const Workspace& workspace, const std::string& cluster_file);

  std::map<std::string, Answer> answers_;  // by cluster file
};

// {"experiment", "active": null or {"executor", "cluster", "since", "cancelled"}, "runs": of `filo run` that live
// [{"host", "pid", "since"}], "settled": nothing is left to wait
// for
//  or to cancel, "counts": {state: stages},
//  "trials": {state: trials}, "notice": results_of_other_activation(), "avoided_nodes": [line], "stages": [{key, kind,
//  label, state, attempt, reason, where, limits, log_tail}]}.
// `limits`: what of the limits is used up ("failed 2 of 3 times"); `log_tail`: last lines, of failed stages and of
// those that will be tried again.
Json status_json(const Workspace& workspace, const Plan& plan, const std::vector<StageStatus>& statuses);

// For people. At most `most` stages, those that need attention first (all with 0): failed, running, tried again, ...
std::string status_text(const Workspace& workspace, const Plan& plan, const std::vector<StageStatus>& statuses,
                        std::size_t most);

}  // namespace filo
