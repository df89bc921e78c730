// Stages as jobs of a Slurm cluster: job arrays for stages of one shape, submitted in two phases, found again by name
// whatever happens to this process or to the controller.
//
// A batch's record (scheduler/executors/slurm_batch.hpp) is written first, then sbatch puts the job into the queue,
// held; its id is recorded, and only then is it released. Killed between any two of these, the next jobs() goes on: a
// batch that was never submitted is submitted, a held job that nobody recorded is found by its name. Job id and name
// are both checked each time, because a controller that was killed gives ids to other jobs.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "scheduler/executors/executor.hpp"
#include "scheduler/executors/slurm_batch.hpp"
#include "scheduler/executors/slurm_commands.hpp"
#include "scheduler/executors/slurm_queue.hpp"
#include "scheduler/executors/slurm_records.hpp"
#include "settings/cluster.hpp"

namespace filo {

// Not thread-safe. jobs(), prepare() and start() are called by who holds Workspace::lock(): what a batch's record says
// is then not about to change.
class SlurmExecutor : public Executor {
 public:
  // `worker`: filo-worker on the nodes, where the settings do not say; `folder`: where jobs start.
  SlurmExecutor(const Workspace& workspace, const ClusterSettings& settings, const std::filesystem::path& worker,
                const std::filesystem::path& folder = std::filesystem::current_path());
  ~SlurmExecutor() override;  // sends what stop() and kill() gathered

  std::string name() const override { return "slurm " + settings_.name; }

  // One squeue for all jobs; beside it only what has to be mended: batches submitted, adopted, released, stray copies
  // of jobs cancelled. An attempt that neither squeue nor the accounting data base nor its own exit.txt tells of has
  // vanished, once its submission is certain to be over.
  std::vector<Job> jobs() override;

  ResourceSettings allowed(const ResourceSettings& wanted) const override { return within_limits(wanted, settings_); }

  // Up to max_submit jobs of this user in the queue; none while the queue is full. Known from jobs() on.
  bool reserve(const ResourceSettings& resources) override;

  std::vector<Json> prepare(const std::vector<StartRequest>& requests) override;
  std::vector<std::string> start(const std::vector<StartRequest>& requests, const std::vector<Json>& claims) override;
  JobState state_once_started() const override { return JobState::pending; }
  bool may_be_running(const Json& claim, const std::function<double()>& age_s) const override;
  double result_grace_s() const override { return settings_.result_grace_s; }
  FileDescriptor lock() const override;

  // Gathered, and sent in one command by the next jobs() or start(), or by the destructor.
  void stop(const std::string& stage, int attempt) override;
  void kill(const std::string& stage, int attempt) override;
  void judge(const Job& job, const AttemptOutcome& end) override;
  void forget(const std::string& stage, int attempt) override;

  int commands_run() const { return commands_.commands_run(); }

 private:
  using Attempt = SlurmRecords::Attempt;
  using Place = SlurmRecords::Place;
  using Record = SlurmRecords::Record;

  // jobs(), from top to bottom.
  void update(Record& record, const SlurmBatchRows& rows);
  void adopt(Record& record, const SlurmBatchRows& rows);
  void submit_when_due(Record& record);
  void release_when_held(Record& record, const SlurmBatchRows& rows, bool was_submitted);
  void list(Record& record, int index, const SlurmJob* row, bool was_submitted);
  void conclude_vanished();
  void cancel_strays();

  void submit(Record& record);
  void release(const std::vector<std::string>& batches);
  void remove_when_over(const std::string& batch);
  void send_requests();
  int most_in_array();
  std::size_t most_to_avoid();
  double uncertain_for_s();

  Workspace workspace_;
  ClusterSettings settings_;
  std::string worker_;
  std::string folder_;
  SlurmCommands commands_;
  SlurmRecords records_;
  std::set<Attempt> asked_;  // to stop or to end, since the attempt began
  std::set<Attempt> to_stop_, to_kill_;
  std::optional<std::size_t> partition_nodes_;  // asked for when there is a node to keep away from
  std::set<std::string> refused_;               // batches that the latest start() could not submit
  double full_until_ = 0;                       // no room in the queue until then, seconds since 1970

  // Of the latest jobs().
  std::vector<Job> jobs_;
  std::vector<std::pair<std::size_t, Place>> vanished_;  // place in jobs_
  std::map<Attempt, SlurmJob> rows_;                     // of those that wait or run
  std::set<std::string> strays_;                         // labels of jobs that must not run
  std::vector<std::string> to_release_;                  // batches
  long room_ = 0;
};

// Of an active experiment that names this cluster file. Throws Error when the file or the worker cannot be had.
std::unique_ptr<Executor> make_slurm_executor(const Workspace& workspace, const std::string& cluster_file);

}  // namespace filo
