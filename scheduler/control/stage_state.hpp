// The states of stages: what the files of each, and the states of its inputs, come to.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "scheduler/plan/plan.hpp"
#include "workspace/index/stage_index.hpp"
#include "workspace/stage_record.hpp"
#include "workspace/workspace.hpp"

namespace filo {

enum class StageState {
  waiting,  // for its inputs
  queued,   // ready, no room yet; or handed to the executor, not running yet
  running,
  done,
  failed,     // often enough not to be tried again
  blocked,    // needs one that is failed, stopped or cancelled
  stopped,    // by a search: its snapshot and its last metrics stay, it is not started again
  cancelled,  // by somebody; until `filo retry`
};
std::string to_string(StageState state);

struct StageStatus {
  std::string key;
  StageState state = StageState::waiting;
  int attempt = 0;         // the newest, 0 = none
  AttemptCounts counts{};  // against the stage's limits
  std::string reason{};    // why it failed, is blocked, was requeued, stopped or cancelled, or who else runs it
  std::string where{};     // of a job that is queued or running: "Slurm job 12_3 on n1"
  double seconds = 0;      // that it took, when done
  bool elsewhere = false;  // running: by somebody whom the pass does not ask (another process, another's cluster)
};

// States of stages none of whose attempts runs. Stages are given one by one, inputs before what needs them.
class StateRules {
 public:
  explicit StateRules(std::size_t stages) { known_.reserve(stages); }

  // Fills in the state, reason and counts. Queued: nothing is in the way of starting it.
  void apply(const PlannedStage& stage, const StageRecord& record, StageStatus& status) const;
  // The state that it has in the end: what decides of those that need it.
  void note(const PlannedStage& stage, StageState state);

 private:
  std::unordered_map<std::uint64_t, std::pair<const PlannedStage*, StageState>> known_;
};

// By the index, if there is one, else by the stage's folder.
StageRecord record_of(const Workspace& workspace, StageIndex* index, const PlannedStage& stage);

// The states by the files alone, for `filo status`, from any machine: what has a claim that holds (claim_holds) runs.
std::vector<StageStatus> observe(const Workspace& workspace, const Plan& plan, StageIndex* index = nullptr);

bool all_done(const std::vector<StageStatus>& statuses);
bool is_settled(StageState state);  // nothing left to wait for: done, failed, blocked, stopped or cancelled
bool is_settled(const std::vector<StageStatus>& statuses);  // every one is

}  // namespace filo
