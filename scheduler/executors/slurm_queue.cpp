#include "scheduler/executors/slurm_queue.hpp"

#include <algorithm>
#include <fstream>

#include "scheduler/executors/bad_nodes.hpp"
#include "scheduler/executors/slurm_records.hpp"

namespace filo {

SlurmQueue::SlurmQueue(std::vector<SlurmJob> rows) : rows_(std::move(rows)) {
  for (const auto& row : rows_) {
    by_name_[row.name].push_back(&row);
    if (!row.has_ended()) ++unfinished_;
  }
}

const std::vector<const SlurmJob*>& SlurmQueue::named(const std::string& name) const {
  static const std::vector<const SlurmJob*> none;
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? none : found->second;
}

const SlurmJob* SlurmBatchRows::at(int index) const {
  const auto found = by_index.find(index);
  return found == by_index.end() ? nullptr : found->second;
}

SlurmBatchRows rows_of_batch(const SlurmQueue& queue, const SlurmBatch& batch) {
  const auto& rows = queue.named(batch.name);
  SlurmBatchRows found{.job_id = batch.job_id, .by_index = {}, .copies = {}};
  if (batch.state != SlurmBatch::State::submitted && !rows.empty())
    found.job_id = (*std::min_element(rows.begin(), rows.end(), [](auto* a, auto* b) { return a->id < b->id; }))->id;
  for (const SlurmJob* row : rows) {
    if (row->id == found.job_id)
      found.by_index[row->index] = row;
    else
      found.copies.push_back(row);
  }
  return found;
}

EndCause cause_of(const SlurmJob& row) {
  if (row.state == "TIMEOUT" || row.state == "DEADLINE") return EndCause::timeout;
  if (row.state == "OUT_OF_MEMORY") return EndCause::out_of_memory;
  if (row.state == "NODE_FAIL" || row.state == "BOOT_FAIL") return EndCause::node_failure;
  if (row.state == "PREEMPTED") return EndCause::preempted;
  if (row.state == "CANCELLED" || row.state == "REVOKED") return EndCause::cancelled;
  if (row.signal != 0) return EndCause::signalled;
  return row.exit_code == unhealthy_node_exit ? EndCause::unhealthy_node : EndCause::exited;
}

bool never_launches(const SlurmJob& row) {
  return row.is_pending() && (row.reason.find("launch failed") != std::string::npos ||
                              row.reason.find("launch_failed") != std::string::npos);
}

Job job_of(const SlurmBatch::Entry& entry, const SlurmJob& row) {
  Job job{.stage = entry.stage, .attempt = entry.attempt};
  job.where = "Slurm job " + row.label();
  if (row.has_ended()) {
    job.state = JobState::ended;
    job.cause = cause_of(row);
    job.exit_code = row.exit_code;
    job.signal = row.signal;
    job.node = row.node();
    job.seconds = row.seconds;
    if (!row.nodes.empty()) job.where += " on " + row.nodes;
  } else if (row.is_pending()) {
    job.state = JobState::pending;
    job.where += ", pending" + (row.reason.empty() || row.reason == "None" ? "" : ": " + row.reason);
    if (row.restarts > 0) job.where += ", requeued " + std::to_string(row.restarts) + " times";
  } else {
    job.state = JobState::running;
    job.where += " on " + row.nodes;
  }
  return job;
}

Job unsubmitted_job(const SlurmBatch& batch, const SlurmBatch::Entry& entry) {
  Job job{.stage = entry.stage, .attempt = entry.attempt, .state = JobState::pending};
  job.where = "not in Slurm's queue yet" + (batch.message.empty() ? "" : ": " + batch.message);
  return job;
}

Job ended_job(const SlurmBatch::Entry& entry, EndCause cause, const std::string& where) {
  return {.stage = entry.stage, .attempt = entry.attempt, .state = JobState::ended, .cause = cause, .where = where};
}

Job with_exit_code_left(Job job, const Workspace& workspace) {
  std::ifstream file(workspace.exit_file(job.stage, job.attempt));
  long id = 0;
  int restarts = 0, code = 0;
  if (!(file >> id >> restarts >> code)) return job;
  job.cause = code > 128                    ? EndCause::signalled
              : code == unhealthy_node_exit ? EndCause::unhealthy_node
                                            : EndCause::exited;
  if (!(file >> job.node >> job.seconds)) job.seconds = -1;
  job.exit_code = code;
  job.signal = code > 128 ? code - 128 : 0;
  return job;
}

std::vector<Job> slurm_jobs(const Workspace& workspace, const ClusterSettings& settings) {
  SlurmCommands commands(settings);
  const SlurmQueue queue(commands.queue());
  std::vector<Job> jobs;
  for (const auto& batch : read_slurm_batches(workspace, settings.name)) {
    const SlurmBatchRows rows = rows_of_batch(queue, batch);
    for (std::size_t i = 0; i < batch.entries.size(); ++i) {
      if (const SlurmJob* row = rows.at(static_cast<int>(i)))
        jobs.push_back(job_of(batch.entries[i], *row));
      else if (batch.state != SlurmBatch::State::submitted)
        jobs.push_back(unsubmitted_job(batch, batch.entries[i]));
    }
  }
  return jobs;
}

}  // namespace filo
