#include "scheduler/executors/slurm_executor.hpp"

#include <algorithm>
#include <cstdio>
#include <random>

#include "base/error.hpp"
#include "base/failpoints.hpp"
#include "base/files.hpp"
#include "base/host.hpp"
#include "base/log.hpp"
#include "base/text.hpp"
#include "scheduler/executors/bad_nodes.hpp"
#include "scheduler/executors/slurm_launch.hpp"
#include "workspace/held_lock.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;
using State = SlurmBatch::State;
constexpr double between_tries_when_full_s = 60;
constexpr double timeout_when_full_s = 5;  // sbatch itself would wait for room
constexpr double release_saved_s = 15;     // slurmctld saves its state every 5 s: a kill -9 undoes what came later
constexpr double keep_unrecorded_s = 24 * 3600;  // a batch that never got an id: its job may still turn up

std::string random_name() {
  std::random_device device;
  char name[32];
  std::snprintf(name, sizeof name, "filo-%08x%08x", device(), device());
  return name;
}

}  // namespace

SlurmExecutor::SlurmExecutor(const Workspace& workspace, const ClusterSettings& settings, const fs::path& worker,
                             const fs::path& folder)
    : workspace_(workspace),
      settings_(settings),
      worker_(worker.string()),
      folder_(fs::absolute(folder).string()),
      commands_(settings),
      records_(workspace, settings.name) {
  expect_mountable(settings_, workspace_.root());
  expect_mountable(settings_, folder_);
}

SlurmExecutor::~SlurmExecutor() {
  try {
    send_requests();
  } catch (const std::exception& error) {
    log_warning(error.what());
  }
}

int SlurmExecutor::most_in_array() {
  const auto& site = commands_.configuration();
  const auto most = site.find("MaxArraySize");
  if (most == site.end()) return settings_.max_array_size;
  return std::clamp(std::atoi(most->second.c_str()), 1, settings_.max_array_size);
}

// How long after sbatch was called its job may still turn up in the queue.
double SlurmExecutor::uncertain_for_s() {
  const auto& site = commands_.configuration();
  const auto timeout = site.find("MessageTimeout");  // "10 sec"
  const double message_s = timeout == site.end() ? settings_.message_timeout_s : std::atof(timeout->second.c_str());
  return settings_.command_timeout_s + 2 * message_s;
}

std::vector<Job> SlurmExecutor::jobs() {
  records_.load();
  const SlurmQueue queue(commands_.queue());
  room_ = settings_.max_submit - queue.unfinished();
  jobs_.clear();
  vanished_.clear();
  rows_.clear();
  strays_.clear();
  to_release_.clear();

  std::vector<std::string> over;
  for (auto& [name, record] : records_.all()) {
    update(record, rows_of_batch(queue, record.batch));
    if (record.is_over()) over.push_back(name);
  }
  conclude_vanished();
  release(to_release_);
  cancel_strays();
  send_requests();
  for (const auto& name : over) remove_when_over(name);
  return std::move(jobs_);
}

void SlurmExecutor::update(Record& record, const SlurmBatchRows& rows) {
  adopt(record, rows);
  for (const SlurmJob* copy : rows.copies)
    if (!copy->has_ended()) strays_.insert(copy->label());
  const bool was_submitted = record.batch.state == State::submitted;
  if (!was_submitted) submit_when_due(record);
  release_when_held(record, rows, was_submitted);
  for (std::size_t i = 0; i < record.batch.entries.size(); ++i) {
    const int index = static_cast<int>(i);
    list(record, index, rows.at(index), was_submitted);
  }
}

// A job that was submitted, but not recorded: the process that did it died, or sbatch failed too late.
void SlurmExecutor::adopt(Record& record, const SlurmBatchRows& rows) {
  SlurmBatch& batch = record.batch;
  if (batch.state == State::submitted || rows.empty()) return;
  batch.job_id = rows.job_id;
  batch.state = State::submitted;
  batch.message.clear();
  records_.save(record);
  pass_failpoint("recorded");
}

void SlurmExecutor::submit_when_due(Record& record) {
  const SlurmBatch& batch = record.batch;
  const bool certain = batch.state == State::prepared || wall_time_s() > batch.since + uncertain_for_s();
  if (!record.is_over() && certain && wall_time_s() > full_until_) submit(record);
}

void SlurmExecutor::release_when_held(Record& record, const SlurmBatchRows& rows, bool was_submitted) {
  SlurmBatch& batch = record.batch;
  if (batch.state != State::submitted || batch.released) return;
  const bool held = std::any_of(rows.by_index.begin(), rows.by_index.end(), [](const auto& row) {
    return row.second->is_pending() && row.second->reason == "JobHeldUser";
  });
  if (held || (batch.released_at == 0 && !was_submitted)) {
    to_release_.push_back(batch.name);
  } else if (!rows.by_index.empty() && wall_time_s() > batch.released_at + release_saved_s) {
    if (batch.released_at == 0) batch.released_at = wall_time_s();  // by somebody else
    batch.released = true;
    records_.save(record);
  }
}

void SlurmExecutor::list(Record& record, int index, const SlurmJob* row, bool was_submitted) {
  const SlurmBatch& batch = record.batch;
  const SlurmBatch::Entry& entry = record.entry(index);
  const bool lives = row != nullptr && !row->has_ended() && row->state != "COMPLETING";
  const bool is_over = record.over.contains(index);
  if (lives && (is_over || entry.dropped || never_launches(*row))) strays_.insert(row->label());
  if (is_over) return;

  auto ended = record.ended.find(index);
  if (ended == record.ended.end()) {
    std::optional<Job> end;
    if (entry.dropped)
      end = ended_job(entry, EndCause::cancelled, "Slurm batch " + batch.name);
    else if (row != nullptr && never_launches(*row))
      end = ended_job(entry, EndCause::node_failure, "Slurm job " + row->label() + ", " + row->reason);
    else if (row != nullptr && row->has_ended())
      end = job_of(entry, *row);
    if (end) ended = record.ended.emplace(index, std::move(*end)).first;
  }

  const Attempt attempt{entry.stage, entry.attempt};
  Job job;
  if (ended != record.ended.end()) {
    job = ended->second;
  } else if (row != nullptr) {
    job = job_of(entry, *row);
    rows_[attempt] = *row;
  } else if (was_submitted) {
    const std::string label =
        std::to_string(batch.job_id) + (batch.entries.size() > 1 ? "_" + std::to_string(index) : "");
    job = ended_job(entry, EndCause::vanished, "Slurm job " + label);
    vanished_.push_back({jobs_.size(), {batch.name, index}});
  } else {
    job = unsubmitted_job(batch, entry);
    --room_;
  }
  job.asked_to_stop = asked_.contains(attempt);
  jobs_.push_back(std::move(job));
}

// Slurm forgets a job after MinJobAge. The batch script left its exit code, if it lived to; the accounting data base
// knows more: whether a signal came from a user, a time limit, or a failing node.
void SlurmExecutor::conclude_vanished() {
  if (vanished_.empty()) return;
  std::vector<std::string> labels;
  for (const auto& [at, place] : vanished_) {
    labels.push_back(jobs_[at].where.substr(std::string("Slurm job ").size()));
    jobs_[at] = with_exit_code_left(std::move(jobs_[at]), workspace_);
  }
  const auto& site = commands_.configuration();
  const auto accounting = site.find("AccountingStorageType");
  std::vector<SlurmJob> accounted;
  if (accounting != site.end() && accounting->second.find("slurmdbd") != std::string::npos)
    accounted = commands_.accounted(labels);
  for (const auto& row : accounted)
    for (const auto& [at, place] : vanished_) {
      Record& record = records_.at(place.first);
      if (!row.has_ended() || row.name != place.first || row.id != record.batch.job_id || row.index != place.second)
        continue;
      const bool asked = jobs_[at].asked_to_stop;
      jobs_[at] = job_of(record.entry(place.second), row);
      jobs_[at].asked_to_stop = asked;
    }
  for (const auto& [at, place] : vanished_) records_.at(place.first).ended[place.second] = jobs_[at];
}

void SlurmExecutor::cancel_strays() {
  if (strays_.empty()) return;
  const std::string problem = commands_.cancel({strays_.begin(), strays_.end()});
  if (!problem.empty()) log_warning("slurm: stray jobs could not be cancelled: " + problem);
}

bool SlurmExecutor::reserve(const ResourceSettings&) {
  if (room_ <= 0 || wall_time_s() < full_until_) return false;
  --room_;
  return true;
}

std::vector<Json> SlurmExecutor::prepare(const std::vector<StartRequest>& requests) {
  std::vector<Json> claims(requests.size());
  const auto bad = bad_nodes(workspace_, settings_);
  const std::size_t most_avoided = bad.empty() ? 0 : most_to_avoid();
  std::map<std::pair<std::string, std::vector<std::string>>, std::vector<std::size_t>> shapes;
  for (std::size_t i = 0; i < requests.size(); ++i)
    shapes[{to_json(requests[i].resources).dump(), nodes_to_avoid(bad, requests[i].stage->key, most_avoided)}]
        .push_back(i);
  const auto most = requests.size() > 1 ? static_cast<std::size_t>(most_in_array()) : 1;
  for (const auto& [shape, members] : shapes)
    for (std::size_t start = 0; start < members.size(); start += most) {
      SlurmBatch batch{.name = random_name(),
                       .cluster = settings_.name,
                       .folder = folder_,
                       .resources = requests[members[start]].resources,
                       .entries = {},
                       .exclude = shape.second,
                       .message = {}};
      for (std::size_t i = start; i < std::min(members.size(), start + most); ++i) {
        const StartRequest& request = requests[members[i]];
        claims[members[i]] = {{"executor", name()}, {"batch", batch.name}, {"index", batch.entries.size()}};
        batch.entries.push_back({request.stage->key, request.attempt, request.stage->kind, request.stage->inputs});
      }
      records_.add(std::move(batch));
    }
  return claims;
}

// Half of the partition's nodes at most: what is wrong everywhere is no node's fault, and a job has to run somewhere.
std::size_t SlurmExecutor::most_to_avoid() {
  if (!partition_nodes_) partition_nodes_ = commands_.nodes_of(settings_.partition);
  return std::min(static_cast<std::size_t>(settings_.bad_nodes.limit), *partition_nodes_ / 2);
}

void SlurmExecutor::submit(Record& record) {
  SlurmBatch& batch = record.batch;
  for (const int index : record.over) record.entry(index).dropped = true;
  if (std::all_of(batch.entries.begin(), batch.entries.end(), [](const auto& entry) { return entry.dropped; })) return;
  const fs::path script = records_.script(batch.name);
  write_file_atomically(script, slurm_script(batch, settings_, workspace_, worker_));
  batch.state = State::submitting;
  batch.since = wall_time_s();
  records_.save(record);
  const bool was_full = full_until_ > 0;
  const auto send = [&] {
    return commands_.submit(slurm_arguments(batch, settings_, workspace_, script),
                            was_full ? std::optional<double>(timeout_when_full_s) : std::nullopt);
  };
  using Outcome = SlurmSubmission::Outcome;
  auto answer = send();
  if (answer.outcome == Outcome::refused && !batch.exclude.empty()) {  // the other nodes may be none of its kind
    batch.exclude.clear();
    records_.save(record);
    answer = send();
  }
  full_until_ = answer.outcome == Outcome::full ? wall_time_s() + between_tries_when_full_s : 0;
  if (answer.outcome == Outcome::taken) {
    pass_failpoint("submitted");
    batch.state = State::submitted;
    batch.job_id = answer.id;
    batch.message.clear();
    records_.save(record);
    pass_failpoint("recorded");
    return;
  }
  batch.message = answer.message;
  batch.since = wall_time_s();
  records_.save(record);
  if (answer.outcome != Outcome::refused) {
    log_warning("slurm: batch " + batch.name + " is not in the queue yet: " + answer.message);
    return;
  }
  refused_.insert(batch.name);
  for (std::size_t i = 0; i < batch.entries.size(); ++i) {
    Job job = ended_job(batch.entries[i], EndCause::exited, "sbatch refused it: " + answer.message);
    job.exit_code = 1;
    record.ended.emplace(static_cast<int>(i), std::move(job));
  }
}

void SlurmExecutor::release(const std::vector<std::string>& batches) {
  if (batches.empty()) return;
  std::vector<std::string> labels;
  for (const auto& name : batches) labels.push_back(std::to_string(records_.at(name).batch.job_id));
  const std::string problem = commands_.release(labels);
  if (!problem.empty()) {
    log_warning("slurm: jobs could not be released yet: " + problem);
    return;
  }
  for (const auto& name : batches) {
    Record& record = records_.at(name);
    record.batch.released_at = wall_time_s();
    records_.save(record);
  }
  pass_failpoint("released");
}

std::vector<std::string> SlurmExecutor::start(const std::vector<StartRequest>& requests,
                                              const std::vector<Json>& claims) {
  send_requests();
  refused_.clear();
  std::vector<std::string> taken;
  std::set<std::string> seen;
  for (const auto& claim : claims) {
    const std::string batch = claim.at("batch");
    if (!seen.insert(batch).second) continue;
    if (wall_time_s() < full_until_) continue;  // stays prepared; a later jobs() submits it
    submit(records_.at(batch));
    if (records_.at(batch).batch.state == State::submitted) taken.push_back(batch);
  }
  release(taken);
  std::vector<std::string> problems(requests.size());
  for (std::size_t i = 0; i < requests.size(); ++i) {
    const std::string batch = claims[i].at("batch");
    if (refused_.contains(batch)) problems[i] = "sbatch refused it: " + records_.at(batch).batch.message;
  }
  for (const auto& batch : refused_) records_.remove(batch);
  refused_.clear();
  return problems;
}

void SlurmExecutor::judge(const Job& job, const AttemptOutcome& end) {
  const auto bad = judged(job, end, settings_.bad_nodes);
  if (!bad || settings_.bad_nodes.limit == 0) return;
  add_bad_node(workspace_, settings_, *bad);
  log_warning("slurm: " + keeping_away(*bad) + " for " + settings_.bad_nodes.expiry + ": " + bad->why);
}

FileDescriptor SlurmExecutor::lock() const { return held_lock(workspace_.slurm_lock_file(settings_.name)); }

bool SlurmExecutor::may_be_running(const Json& claim, const std::function<double()>&) const {
  const auto batch = claim.find("batch");
  std::error_code error;
  return batch != claim.end() && batch->is_string() && is_plain_name(batch->get<std::string>()) &&
         fs::exists(records_.file(batch->get<std::string>()), error);
}

void SlurmExecutor::stop(const std::string& stage, int number) {
  const Attempt attempt{stage, number};
  const auto row = rows_.find(attempt);
  if (row == rows_.end() || row->second.is_pending()) return kill(stage, number);  // it has no snapshot to write
  if (asked_.insert(attempt).second) to_stop_.insert(attempt);
}

void SlurmExecutor::kill(const std::string& stage, int number) {
  const Attempt attempt{stage, number};
  const auto place = records_.place(attempt);
  if (!place) return;
  asked_.insert(attempt);
  Record& record = records_.at(place->first);
  auto& entry = record.entry(place->second);
  if (record.batch.state == State::submitted) {
    to_kill_.insert(attempt);
  } else if (!entry.dropped) {
    entry.dropped = true;
    records_.save(record);
  }
}

void SlurmExecutor::send_requests() {
  const auto labels_of = [&](const std::set<Attempt>& attempts, bool pending_too) {
    std::vector<std::string> labels;
    for (const auto& attempt : attempts)
      if (const auto row = rows_.find(attempt); row != rows_.end() && (pending_too || !row->second.is_pending()))
        labels.push_back(row->second.label());
    return labels;
  };
  const auto sent = [&](std::set<Attempt>& attempts, const std::vector<std::string>& labels,
                        const std::string& problem) {
    if (!problem.empty()) return log_warning("slurm: " + std::to_string(labels.size()) + " jobs to end: " + problem);
    std::erase_if(attempts,
                  [&](const Attempt& attempt) { return rows_.contains(attempt) || !records_.place(attempt); });
  };
  if (const auto labels = labels_of(to_stop_, false); !labels.empty())
    sent(to_stop_, labels, commands_.signal_batch_script("USR2", labels));
  if (const auto labels = labels_of(to_kill_, true); !labels.empty()) sent(to_kill_, labels, commands_.cancel(labels));
}

void SlurmExecutor::forget(const std::string& stage, int number) {
  const Attempt attempt{stage, number};
  const auto place = records_.place(attempt);
  if (!place) return;
  Record& record = records_.at(place->first);
  record.over.insert(place->second);
  for (auto* attempts : {&asked_, &to_stop_, &to_kill_}) attempts->erase(attempt);
  if (record.is_over()) remove_when_over(place->first);
}

// A batch whose job never showed is kept for a day: should the job turn up after all, it is known for a stray.
void SlurmExecutor::remove_when_over(const std::string& name) {
  const SlurmBatch& batch = records_.at(name).batch;
  if (batch.state == State::submitting && wall_time_s() < batch.since + keep_unrecorded_s) return;
  records_.remove(name);
}

std::unique_ptr<Executor> make_slurm_executor(const Workspace& workspace, const std::string& cluster_file) {
  const ClusterSettings settings = load_cluster_settings(cluster_file);
  return std::make_unique<SlurmExecutor>(workspace, settings, worker_on_nodes(settings));
}

}  // namespace filo
