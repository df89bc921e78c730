// What of an experiment others run, a cluster or another process, for who waits for it: `filo run` cannot move that
// itself, and says what does.
#pragma once

#include <chrono>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "scheduler/control/stage_state.hpp"
#include "workspace/workspace.hpp"

namespace filo {

// Not thread-safe.
class OtherHands {
 public:
  explicit OtherHands(const Workspace& workspace) : workspace_(workspace) {}

  // A line for each who has stages in hand (StageStatus::elsewhere): how far they are, what moves them on, or that
  // nothing does, and what can be done about it. Left out are lines that say what was told last time, but for numbers.
  // Asks a cluster's queue, every half a minute at most.
  std::vector<std::string> news(const std::vector<StageStatus>& statuses);

 private:
  using Attempt = std::pair<std::string, int>;  // stage, number
  struct Queue {
    std::chrono::steady_clock::time_point asked{};
    std::string problem{};                    // why it says nothing, "" when it does
    std::map<Attempt, std::string> states{};  // "pending: Priority"
    std::map<std::string, long> jobs{};       // ids, by batch
    std::string watch{};                      // "job 4712", "" when there is none
    bool active = false;                      // an active experiment is on the cluster: passes look after it
  };
  const Json& claim_of(const StageStatus& status);
  const Queue& queue_of(const std::string& executor);
  Queue ask(const std::string& executor) const;
  std::string on_cluster(const std::string& executor, const std::vector<const StageStatus*>& stages);
  std::string what_moves(const Queue& queue) const;

  const Workspace& workspace_;
  std::map<Attempt, Json> claims_;
  std::map<std::string, Queue> queues_;      // by executor
  std::map<std::string, std::string> told_;  // by who has the stages, without numbers
};

}  // namespace filo
