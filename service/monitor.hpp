// Keeps the server's copy of the workspace up to date.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "service/event_hub.hpp"
#include "service/event_streams.hpp"
#include "service/view.hpp"
#include "workspace/workspace.hpp"

namespace filo::service {

// Makes views of the workspace and announces what changed between them. view() is thread-safe; publish() is for one
// thread.
class Monitor {
 public:
  Monitor(const Workspace& workspace, EventHub& hub) : workspace_(workspace), hub_(hub) {}

  struct Statuses {
    std::vector<StageStatus> stages;  // in the plan's order
    bool active = false;
  };
  // What knows the workspace's experiments. A plan is shared, and another object once plan.json has changed. Statuses
  // unset: they are as they were. Both may throw Error: the experiment is then left as it was shown.
  struct Source {
    std::function<std::shared_ptr<const Plan>(const std::string& name)> plan;
    std::function<std::optional<Statuses>(const std::string& name)> statuses;
  };
  // Publishes a view of all experiments. `problem`: why the pass before it failed. Results are read for a second at
  // most; returns false when some are left for the next call.
  bool publish(const Source& source, std::string problem);

  std::shared_ptr<const View> view() const;

 private:
  struct Experiment {
    std::shared_ptr<const IndexedPlan> plan;
    std::shared_ptr<const std::vector<StageStatus>> statuses;
    std::shared_ptr<const TrialMetrics> metrics;
    std::shared_ptr<const Json> tables;
    std::shared_ptr<const ExperimentView> view;
    std::string problem;  // why it could not be looked at, "" when it could
    bool metrics_complete = false;
    bool tables_stale = true;
    std::chrono::steady_clock::time_point tables_made{};
  };

  bool update(const std::string& name, Experiment& experiment, Statuses statuses,
              std::chrono::steady_clock::time_point deadline);
  bool read_metrics(Experiment& experiment, std::chrono::steady_clock::time_point deadline);

  const Workspace& workspace_;
  EventHub& hub_;
  std::map<std::string, Experiment> experiments_;
  std::uint64_t revision_ = 0;
  mutable std::mutex mutex_;
  std::shared_ptr<const View> view_ =
      std::make_shared<const View>(View{.experiments = {}, .problem = "the workspace has yet to be looked at"});
};

// Reads what running stages append to events.jsonl, for those whose workers do not post: inotify does not work on
// network file systems, so each file is looked at in turn, less often while nothing comes.
class EventTailer {
 public:
  EventTailer(const Workspace& workspace, EventHub& hub, const Monitor& monitor)
      : workspace_(workspace), hub_(hub), monitor_(monitor) {}

  void look();  // at every file whose time has come; for one thread

 private:
  struct Tail {
    EventReader file;
    int attempt = 0;
    std::chrono::milliseconds interval{250};
    std::chrono::steady_clock::time_point due{};
  };

  const Workspace& workspace_;
  EventHub& hub_;
  const Monitor& monitor_;
  std::uint64_t revision_ = 0;
  std::map<std::string, Tail> tails_;
  std::chrono::steady_clock::time_point told_{};
};

}  // namespace filo::service
