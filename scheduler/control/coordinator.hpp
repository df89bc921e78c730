// Looks after all active experiments of a workspace: `filo reconcile` makes one pass, `filo serve` one after another;
// `filo run` looks after its own experiment in the same way.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "scheduler/control/reconcile.hpp"
#include "scheduler/control/search.hpp"
#include "scheduler/tracking/tracking.hpp"
#include "workspace/index/stage_index.hpp"

namespace filo {

struct CoordinatorOptions {
  // What a plan's searches give up now; pure. Called before each pass.
  std::function<std::vector<StopDecision>(const Workspace&, const Plan&)> search = search_decisions;
  std::function<void(std::string_view name)> at_point = pass_failpoint;  // failpoints; for tests
};

// Makes the executor of an active experiment; called once for each executor and cluster file. Throws Error when it
// cannot be had (a cluster's file is gone): the experiment is then left as it is, and the pass says so. May return
// null: the experiment's stages are recorded, none is started.
using ExecutorFactory = std::function<std::unique_ptr<Executor>(const ActiveExperiment& experiment)>;

struct CoordinatorPass {
  std::vector<PassAction> actions;
  std::vector<std::string> troubles;  // what could not be looked after, and why
  std::size_t experiments = 0;        // active ones
  std::size_t stages = 0;             // of them, shared ones once
  std::map<StageState, std::size_t> counts;
  bool settled = true;  // every stage of every active experiment is
};

// Not thread-safe. Several coordinators on one workspace are safe, in one process or in several (see reconcile()).
class Coordinator {
 public:
  // `factory` null: active experiments are left alone, only look_after() counts.
  Coordinator(const Workspace& workspace, ExecutorFactory factory, CoordinatorOptions options);
  ~Coordinator();

  // Looks after a plan on an executor although no active.json says so. Both must outlive the coordinator.
  void look_after(const Plan& plan, Executor& executor);

  // One pass over all of them: a stage that several need is looked after once, by the executor of the experiment that
  // has been active longest. An experiment whose stages are all done, or which was cancelled and has nothing running
  // any more, is no longer active afterwards. Throws Error when the workspace cannot be read or written.
  CoordinatorPass pass(bool start_new = true);

  // In the plan's order: as the latest pass left them; by the files alone for an experiment that no pass looks after.
  // Throws UsageError when there is no such experiment.
  std::vector<StageStatus> statuses(const std::string& experiment);
  std::vector<StageStatus> statuses(const Plan& plan);

  // What of all this runs as children of this process (Executor::children()), and how it is ended: see drain().
  Executor::Children children();
  void stop_children();
  void end_children();

  // Kept until plan.json changes. Throws as load_plan().
  std::shared_ptr<const Plan> plan(const std::string& experiment);

 private:
  struct Loaded {
    std::string stamp;
    std::shared_ptr<const Plan> plan;
  };
  struct Watched {
    const Plan* plan = nullptr;
    Executor* executor = nullptr;  // null: nothing of it is started
    ConcurrencyLimit concurrency;
    ActiveExperiment experiment{};          // as it was when the pass began; without a name: in the foreground
    std::shared_ptr<const Plan> tracked{};  // the plan, where TensorBoard or MLflow are told of it
  };

  std::vector<Watched> watched(CoordinatorPass& pass);
  void give_up_when_cancelled(const ActiveExperiment& experiment, CoordinatorPass& pass);
  Executor* executor_of(const ActiveExperiment& experiment);
  std::vector<Executor*> all_executors();
  static std::unordered_set<std::string_view> needed_elsewhere(const std::vector<Watched>& watched, const Watched& one);
  const StageStatus& status_of(const PlannedStage& stage) const { return latest_[position_.at(key_number(stage.key))]; }
  void apply_searches(const std::vector<Watched>& watched, CoordinatorPass& pass);
  void apply_cancellations(const std::vector<Watched>& watched, CoordinatorPass& pass);
  std::vector<StageAssignment> assign(const std::vector<Watched>& watched, std::vector<Executor*>& executors);
  void track(const std::vector<Watched>& watched);
  void retire(const std::vector<Watched>& watched, CoordinatorPass& pass);

  Workspace workspace_;
  ExecutorFactory factory_;
  CoordinatorOptions options_;
  StageIndex index_;
  std::map<std::string, Loaded> plans_;
  // By executor and the cluster's file. One for each cluster, whatever its file is called: two would each take the
  // cluster's jobs for their own.
  std::map<std::pair<std::string, std::string>, std::shared_ptr<Executor>> executors_;
  std::vector<Watched> foreground_;
  std::vector<StageStatus> latest_;
  std::unordered_map<std::uint64_t, std::size_t> position_;  // in latest_, by key_number()
  std::unique_ptr<Tracking> tracking_;                       // once there is something to track
};

}  // namespace filo
