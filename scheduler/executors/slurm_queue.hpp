// What the rows of a queue say of the attempts in a batch. Nothing here asks, writes or mends anything.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "scheduler/executors/executor.hpp"
#include "scheduler/executors/slurm_batch.hpp"
#include "scheduler/executors/slurm_commands.hpp"

namespace filo {

// A cluster's queue, by the names of the jobs.
class SlurmQueue {
 public:
  explicit SlurmQueue(std::vector<SlurmJob> rows);
  SlurmQueue(const SlurmQueue&) = delete;  // holds pointers into itself
  SlurmQueue& operator=(const SlurmQueue&) = delete;

  const std::vector<const SlurmJob*>& named(const std::string& name) const;
  long unfinished() const { return unfinished_; }  // jobs that wait or run, of whatever name

 private:
  std::vector<SlurmJob> rows_;
  std::map<std::string, std::vector<const SlurmJob*>> by_name_;
  long unfinished_ = 0;
};

// The rows of one batch. A name belongs to one batch, but may be there twice: submitted again when the first answer
// came too late. The job that counts is the one that is recorded, else the first.
struct SlurmBatchRows {
  long job_id = 0;                          // as recorded, or of the job that was found; 0: neither
  std::map<int, const SlurmJob*> by_index;  // of that job
  std::vector<const SlurmJob*> copies;      // of others

  const SlurmJob* at(int index) const;  // null: the queue has none
  bool empty() const { return by_index.empty() && copies.empty(); }
};
SlurmBatchRows rows_of_batch(const SlurmQueue& queue, const SlurmBatch& batch);

EndCause cause_of(const SlurmJob& row);    // of one that has ended
bool never_launches(const SlurmJob& row);  // a launch failed: Slurm gave it back to the queue, held for ever
Job job_of(const SlurmBatch::Entry& entry, const SlurmJob& row);
Job unsubmitted_job(const SlurmBatch& batch, const SlurmBatch::Entry& entry);
Job ended_job(const SlurmBatch::Entry& entry, EndCause cause, const std::string& where);

// Of an attempt that Slurm has forgotten, by the exit.txt that its batch script left; `job` as it is without one.
Job with_exit_code_left(Job job, const Workspace& workspace);

// What a cluster's queue says of the workspace's attempts: one squeue, and nothing written, sent or mended. An attempt
// that the queue no longer lists is left out. Throws Error when the controller did not answer.
std::vector<Job> slurm_jobs(const Workspace& workspace, const ClusterSettings& settings);

}  // namespace filo
