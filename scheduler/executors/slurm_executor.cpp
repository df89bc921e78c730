#include "scheduler/executors/slurm_executor.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <random>
#include <sstream>

#include "base/error.hpp"
#include "base/failpoints.hpp"
#include "base/files.hpp"
#include "base/host.hpp"
#include "base/log.hpp"
#include "base/text.hpp"
#include "scheduler/executors/local_executor.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;
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

std::optional<std::pair<std::uint64_t, std::int64_t>> version_of(const fs::path& path) {
  struct stat status {};
  if (stat(path.c_str(), &status) != 0) return std::nullopt;
  return std::make_pair(static_cast<std::uint64_t>(status.st_ino),
                        static_cast<std::int64_t>(status.st_mtim.tv_sec) * 1'000'000'000 + status.st_mtim.tv_nsec);
}

EndCause cause_of(const SlurmJob& row) {
  if (row.state == "TIMEOUT" || row.state == "DEADLINE") return EndCause::timeout;
  if (row.state == "OUT_OF_MEMORY") return EndCause::out_of_memory;
  if (row.state == "NODE_FAIL" || row.state == "BOOT_FAIL") return EndCause::node_failure;
  if (row.state == "PREEMPTED") return EndCause::preempted;
  if (row.state == "CANCELLED" || row.state == "REVOKED") return EndCause::cancelled;
  return row.signal != 0 ? EndCause::signalled : EndCause::exited;
}

// Slurm gives such a job back to the queue, held for ever.
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

Job ended_job(const SlurmBatch::Entry& entry, EndCause cause, const std::string& where) {
  return {.stage = entry.stage, .attempt = entry.attempt, .state = JobState::ended, .cause = cause, .where = where};
}

// Records of batches in the workspace: NAME.json.
std::vector<fs::path> record_files(const Workspace& workspace) {
  std::vector<fs::path> files;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(workspace.slurm_batches_folder(), error)) {
    const std::string file = entry.path().filename().string();
    if (file.front() != '.' && file.ends_with(".json")) files.push_back(entry.path());
  }
  return files;
}

// Of this cluster; nothing (and a warning) when it is broken.
std::optional<SlurmBatch> read_record(const fs::path& file, const ClusterSettings& settings) {
  try {
    SlurmBatch batch = slurm_batch_from_json(read_json(file), file.string());
    if (batch.cluster == settings.name && batch.name == file.stem().string()) return batch;
  } catch (const Error& problem) {
    log_warning(problem.what());
  }
  return std::nullopt;
}

// The job that counts of those of a batch's name: the one that is recorded, else the first.
long job_of_batch(const SlurmBatch& batch, const std::vector<const SlurmJob*>& rows) {
  if (batch.state == SlurmBatch::State::submitted || rows.empty()) return batch.job_id;
  return (*std::min_element(rows.begin(), rows.end(), [](auto* a, auto* b) { return a->id < b->id; }))->id;
}

Job unsubmitted_job(const SlurmBatch& batch, const SlurmBatch::Entry& entry) {
  Job job{.stage = entry.stage, .attempt = entry.attempt, .state = JobState::pending};
  job.where = "not in Slurm's queue yet" + (batch.message.empty() ? "" : ": " + batch.message);
  return job;
}

// What the batch script itself left: "JOBID RESTARTS CODE".
std::optional<int> exit_code_left(const fs::path& exit_file) {
  std::ifstream file(exit_file);
  long job = 0;
  int restarts = 0, code = 0;
  if (!(file >> job >> restarts >> code)) return std::nullopt;
  return code;
}

}  // namespace

SlurmExecutor::SlurmExecutor(const Workspace& workspace, const ClusterSettings& settings, fs::path worker,
                             fs::path folder)
    : workspace_(workspace),
      settings_(settings),
      worker_(settings.worker.empty() ? worker.string() : settings.worker),
      folder_(fs::absolute(folder).string()),
      commands_(settings) {
  std::error_code error;
  fs::create_directories(workspace_.slurm_batches_folder(), error);
  if (error)
    throw UsageError("slurm: " + workspace_.slurm_folder().string(), "folder cannot be made: " + error.message());
}

SlurmExecutor::~SlurmExecutor() {
  try {
    send_requests();
  } catch (const std::exception& error) {
    log_warning(error.what());
  }
}

fs::path SlurmExecutor::record_file(const std::string& batch) const {
  return workspace_.slurm_batches_folder() / (batch + ".json");
}

void SlurmExecutor::save(Known& known) {
  const fs::path file = record_file(known.batch.name);
  write_json(file, to_json(known.batch));
  if (const auto version = version_of(file)) known.version = *version;
}

// Other processes make, change and remove records too, between our looks.
void SlurmExecutor::load_records() {
  std::set<std::string> present;
  for (const auto& file : record_files(workspace_)) {
    const std::string name = file.stem().string();
    const auto version = version_of(file);
    if (!version) continue;
    present.insert(name);
    const auto known = batches_.find(name);
    if (known != batches_.end() && known->second.version == *version) continue;
    auto batch = read_record(file, settings_);
    if (!batch) continue;
    Known& loaded = batches_[name];
    loaded.version = *version;
    for (std::size_t i = 0; i < batch->entries.size(); ++i) {
      const auto& one = batch->entries[i];
      places_[{one.stage, one.attempt}] = {name, static_cast<int>(i)};
      if (workspace_.outcome(one.stage, one.attempt) || workspace_.newest_attempt(one.stage) > one.attempt)
        loaded.over.insert(static_cast<int>(i));
    }
    loaded.batch = std::move(*batch);
  }
  std::erase_if(batches_, [&](const auto& known) { return !present.contains(known.first); });
  std::erase_if(places_, [&](const auto& place) { return !present.contains(place.second.first); });
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
  load_records();
  const std::vector<SlurmJob> queue = commands_.queue();
  std::map<std::string, std::vector<const SlurmJob*>> by_name;
  long waiting_or_running = 0;
  for (const auto& row : queue) {
    by_name[row.name].push_back(&row);
    if (!row.has_ended()) ++waiting_or_running;
  }
  room_ = settings_.max_submit - waiting_or_running;
  rows_.clear();
  strays_.clear();
  vanished_.clear();
  to_release_.clear();

  std::vector<Job> jobs;
  std::vector<std::string> over;
  for (auto& [name, known] : batches_) {
    look_at(known, by_name[name], jobs);
    if (known.over.size() == known.batch.entries.size()) over.push_back(name);
  }
  conclude_vanished(jobs);
  std::vector<Known*> held;
  for (const auto& name : to_release_) held.push_back(&batches_.at(name));
  release(held);
  if (!strays_.empty()) {
    const std::string problem = commands_.cancel({strays_.begin(), strays_.end()});
    if (!problem.empty()) log_warning("slurm: stray jobs could not be cancelled: " + problem);
  }
  send_requests();
  for (const auto& name : over) remove_when_over(name);
  return jobs;
}

void SlurmExecutor::look_at(Known& known, const std::vector<const SlurmJob*>& rows, std::vector<Job>& jobs) {
  SlurmBatch& batch = known.batch;
  if (batch.state != SlurmBatch::State::submitted && !rows.empty()) {
    batch.job_id = job_of_batch(batch, rows);
    batch.state = SlurmBatch::State::submitted;
    batch.message.clear();
    save(known);
    pass_failpoint("recorded");
  }
  std::map<int, const SlurmJob*> row_of;
  for (const SlurmJob* row : rows) {
    if (row->id == batch.job_id)
      row_of[row->index] = row;
    else if (!row->has_ended())
      strays_.insert(row->label());  // submitted twice: the first answer came too late
  }
  const bool was_submitted = batch.state == SlurmBatch::State::submitted;
  if (!was_submitted) {
    const bool wanted = known.over.size() < batch.entries.size();
    const bool again = batch.state == SlurmBatch::State::prepared || wall_time_s() > batch.since + uncertain_for_s();
    if (wanted && again && wall_time_s() > full_until_) submit(known);
  }
  if (batch.state == SlurmBatch::State::submitted && !batch.released) {
    const bool held = std::any_of(row_of.begin(), row_of.end(), [](const auto& row) {
      return row.second->is_pending() && row.second->reason == "JobHeldUser";
    });
    if (held || (batch.released_at == 0 && !was_submitted)) {
      to_release_.push_back(batch.name);
    } else if (!row_of.empty() && wall_time_s() > batch.released_at + release_saved_s) {
      if (batch.released_at == 0) batch.released_at = wall_time_s();  // by somebody else
      batch.released = true;
      save(known);
    }
  }

  for (std::size_t i = 0; i < batch.entries.size(); ++i) {
    const auto& entry = batch.entries[i];
    const int index = static_cast<int>(i);
    const auto found = row_of.find(index);
    const SlurmJob* row = found == row_of.end() ? nullptr : found->second;
    if (row != nullptr && !row->has_ended() && row->state != "COMPLETING" &&
        (known.over.contains(index) || entry.dropped || never_launches(*row)))
      strays_.insert(row->label());
    if (known.over.contains(index)) continue;
    const Id id{entry.stage, entry.attempt};
    if (!known.ended.contains(index)) {
      if (entry.dropped)
        known.ended[index] = ended_job(entry, EndCause::cancelled, "Slurm batch " + batch.name);
      else if (row != nullptr && never_launches(*row))
        known.ended[index] = ended_job(entry, EndCause::node_failure, "Slurm job " + row->label() + ", " + row->reason);
      else if (row != nullptr && row->has_ended())
        known.ended[index] = job_of(entry, *row);
    }
    Job job;
    if (const auto ended = known.ended.find(index); ended != known.ended.end()) {
      job = ended->second;
    } else if (row != nullptr) {
      job = job_of(entry, *row);
      rows_[id] = *row;
    } else if (was_submitted) {
      job = ended_job(
          entry, EndCause::vanished,
          "Slurm job " + std::to_string(batch.job_id) + (batch.entries.size() > 1 ? "_" + std::to_string(i) : ""));
      vanished_.push_back({jobs.size(), {batch.name, index}});
    } else {
      job = unsubmitted_job(batch, entry);
      --room_;
    }
    job.asked_to_stop = asked_.contains(id);
    jobs.push_back(std::move(job));
  }
}

// Slurm forgets a job after MinJobAge. The batch script left its exit code, if it lived to; the accounting data base
// knows more: whether a signal came from a user, a time limit, or a failing node.
void SlurmExecutor::conclude_vanished(std::vector<Job>& jobs) {
  std::vector<std::string> labels;
  for (const auto& [at, place] : vanished_) {
    Job& job = jobs[at];
    labels.push_back(job.where.substr(std::string("Slurm job ").size()));
    if (const auto code = exit_code_left(workspace_.exit_file(job.stage, job.attempt))) {
      job.cause = *code > 128 ? EndCause::signalled : EndCause::exited;
      job.exit_code = *code;
      job.signal = *code > 128 ? *code - 128 : 0;
    }
  }
  if (!labels.empty()) {
    const auto& site = commands_.configuration();
    const auto accounting = site.find("AccountingStorageType");
    std::vector<SlurmJob> accounted;
    if (accounting != site.end() && accounting->second.find("slurmdbd") != std::string::npos)
      accounted = commands_.accounted(labels);
    for (const auto& row : accounted)
      for (const auto& [at, place] : vanished_) {
        const Known& known = batches_.at(place.first);
        if (!row.has_ended() || row.name != place.first || row.id != known.batch.job_id || row.index != place.second)
          continue;
        const bool asked = jobs[at].asked_to_stop;
        jobs[at] = job_of(known.batch.entries[static_cast<std::size_t>(place.second)], row);
        jobs[at].asked_to_stop = asked;
      }
  }
  for (const auto& [at, place] : vanished_) batches_.at(place.first).ended[place.second] = jobs[at];
}

bool SlurmExecutor::reserve(const ResourceSettings&) {
  if (room_ <= 0 || wall_time_s() < full_until_) return false;
  --room_;
  return true;
}

std::vector<Json> SlurmExecutor::prepare(const std::vector<StartRequest>& requests) {
  std::vector<Json> claims(requests.size());
  std::map<std::string, std::vector<std::size_t>> shapes;
  for (std::size_t i = 0; i < requests.size(); ++i) shapes[to_json(requests[i].resources).dump()].push_back(i);
  const auto most = requests.size() > 1 ? static_cast<std::size_t>(most_in_array()) : 1;
  for (const auto& [shape, members] : shapes)
    for (std::size_t start = 0; start < members.size(); start += most) {
      SlurmBatch batch{.name = random_name(),
                       .cluster = settings_.name,
                       .folder = folder_,
                       .resources = requests[members[start]].resources,
                       .entries = {},
                       .message = {}};
      for (std::size_t i = start; i < std::min(members.size(), start + most); ++i) {
        const StartRequest& request = requests[members[i]];
        const int index = static_cast<int>(batch.entries.size());
        claims[members[i]] = {{"executor", name()}, {"batch", batch.name}, {"index", index}};
        places_[{request.stage->key, request.attempt}] = {batch.name, index};
        batch.entries.push_back({request.stage->key, request.attempt, request.stage->kind, request.stage->inputs});
      }
      Known& known = batches_[batch.name];
      known.batch = std::move(batch);
      save(known);
    }
  return claims;
}

void SlurmExecutor::submit(Known& known) {
  SlurmBatch& batch = known.batch;
  for (const int index : known.over) batch.entries[static_cast<std::size_t>(index)].dropped = true;
  if (std::all_of(batch.entries.begin(), batch.entries.end(), [](const auto& entry) { return entry.dropped; })) return;
  const fs::path script = record_file(batch.name).replace_extension(".sh");
  write_file_atomically(script, slurm_script(batch, settings_, workspace_, worker_));
  batch.state = SlurmBatch::State::submitting;
  batch.since = wall_time_s();
  save(known);
  const bool was_full = full_until_ > 0;
  const auto answer = commands_.submit(slurm_arguments(batch, settings_, workspace_, script),
                                       was_full ? std::optional<double>(timeout_when_full_s) : std::nullopt);
  using Outcome = SlurmSubmission::Outcome;
  full_until_ = answer.outcome == Outcome::full ? wall_time_s() + between_tries_when_full_s : 0;
  if (answer.outcome == Outcome::taken) {
    pass_failpoint("submitted");
    batch.state = SlurmBatch::State::submitted;
    batch.job_id = answer.id;
    batch.message.clear();
    save(known);
    pass_failpoint("recorded");
    return;
  }
  batch.message = answer.message;
  batch.since = wall_time_s();
  save(known);
  if (answer.outcome != Outcome::refused) {
    log_warning("slurm: batch " + batch.name + " is not in the queue yet: " + answer.message);
    return;
  }
  refused_.insert(batch.name);
  for (std::size_t i = 0; i < batch.entries.size(); ++i) {
    Job job = ended_job(batch.entries[i], EndCause::exited, "sbatch refused it: " + answer.message);
    job.exit_code = 1;
    known.ended.emplace(static_cast<int>(i), std::move(job));
  }
}

void SlurmExecutor::release(std::vector<Known*> batches) {
  if (batches.empty()) return;
  std::vector<std::string> labels;
  for (const Known* known : batches) labels.push_back(std::to_string(known->batch.job_id));
  const std::string problem = commands_.release(labels);
  if (!problem.empty()) {
    log_warning("slurm: jobs could not be released yet: " + problem);
    return;
  }
  for (Known* known : batches) {
    known->batch.released_at = wall_time_s();
    save(*known);
  }
  pass_failpoint("released");
}

std::vector<std::string> SlurmExecutor::start(const std::vector<StartRequest>& requests,
                                              const std::vector<Json>& claims) {
  send_requests();
  refused_.clear();
  std::vector<Known*> taken;
  std::set<std::string> seen;
  for (const auto& claim : claims) {
    const std::string batch = claim.at("batch");
    if (!seen.insert(batch).second) continue;
    Known& known = batches_.at(batch);
    if (wall_time_s() < full_until_) continue;  // stays prepared; a later jobs() submits it
    submit(known);
    if (known.batch.state == SlurmBatch::State::submitted) taken.push_back(&known);
  }
  release(taken);
  std::vector<std::string> problems(requests.size());
  for (std::size_t i = 0; i < requests.size(); ++i) {
    const std::string batch = claims[i].at("batch");
    if (refused_.contains(batch)) problems[i] = "sbatch refused it: " + batches_.at(batch).batch.message;
  }
  for (const auto& batch : refused_) {
    fs::remove(record_file(batch));
    fs::remove(record_file(batch).replace_extension(".sh"));
    batches_.erase(batch);
    std::erase_if(places_, [&](const auto& place) { return place.second.first == batch; });
  }
  refused_.clear();
  return problems;
}

bool SlurmExecutor::may_be_running(const Json& claim, double) const {
  const auto batch = claim.find("batch");
  std::error_code error;
  return batch != claim.end() && batch->is_string() && is_plain_name(batch->get<std::string>()) &&
         fs::exists(record_file(batch->get<std::string>()), error);
}

void SlurmExecutor::stop(const std::string& stage, int attempt) {
  const Id id{stage, attempt};
  const auto row = rows_.find(id);
  if (row == rows_.end() || row->second.is_pending()) return kill(stage, attempt);  // it has no snapshot to write
  if (asked_.insert(id).second) to_stop_.insert(id);
}

void SlurmExecutor::kill(const std::string& stage, int attempt) {
  const Id id{stage, attempt};
  const auto place = places_.find(id);
  if (place == places_.end()) return;
  asked_.insert(id);
  Known& known = batches_.at(place->second.first);
  auto& entry = known.batch.entries[static_cast<std::size_t>(place->second.second)];
  if (known.batch.state == SlurmBatch::State::submitted) {
    to_kill_.insert(id);
  } else if (!entry.dropped) {
    entry.dropped = true;
    save(known);
  }
}

void SlurmExecutor::send_requests() {
  const auto labels_of = [&](std::set<Id>& ids, bool pending_too) {
    std::vector<std::string> labels;
    for (const auto& id : ids)
      if (const auto row = rows_.find(id); row != rows_.end() && (pending_too || !row->second.is_pending()))
        labels.push_back(row->second.label());
    return labels;
  };
  const auto send = [&](std::set<Id>& ids, const std::vector<std::string>& labels, const std::string& problem) {
    if (!problem.empty()) return log_warning("slurm: " + std::to_string(labels.size()) + " jobs to end: " + problem);
    std::erase_if(ids, [&](const Id& id) { return rows_.contains(id) || !places_.contains(id); });
  };
  if (const auto labels = labels_of(to_stop_, false); !labels.empty())
    send(to_stop_, labels, commands_.signal_batch_script("USR2", labels));
  if (const auto labels = labels_of(to_kill_, true); !labels.empty()) send(to_kill_, labels, commands_.cancel(labels));
}

void SlurmExecutor::forget(const std::string& stage, int attempt) {
  const Id id{stage, attempt};
  const auto place = places_.find(id);
  if (place == places_.end()) return;
  const std::string name = place->second.first;
  Known& known = batches_.at(name);
  known.over.insert(place->second.second);
  for (auto* ids : {&asked_, &to_stop_, &to_kill_}) ids->erase(id);
  if (known.over.size() == known.batch.entries.size()) remove_when_over(name);
}

// A batch whose job never showed is kept for a day: should the job turn up after all, it is known for a stray.
void SlurmExecutor::remove_when_over(const std::string& name) {
  const SlurmBatch& batch = batches_.at(name).batch;
  if (batch.state == SlurmBatch::State::submitting && wall_time_s() < batch.since + keep_unrecorded_s) return;
  std::error_code ignored;
  fs::remove(record_file(name).replace_extension(".sh"), ignored);
  fs::remove(record_file(name), ignored);
  std::erase_if(places_, [&](const auto& place) { return place.second.first == name; });
  batches_.erase(name);
}

std::vector<Job> slurm_jobs(const Workspace& workspace, const ClusterSettings& settings) {
  SlurmCommands commands(settings);
  const std::vector<SlurmJob> queue = commands.queue();
  std::map<std::string, std::vector<const SlurmJob*>> by_name;
  for (const auto& row : queue) by_name[row.name].push_back(&row);
  std::vector<Job> jobs;
  for (const auto& file : record_files(workspace)) {
    const auto batch = read_record(file, settings);
    if (!batch) continue;
    const auto& rows = by_name[batch->name];
    const long id = job_of_batch(*batch, rows);
    std::map<int, const SlurmJob*> row_of;
    for (const SlurmJob* row : rows)
      if (row->id == id) row_of[row->index] = row;
    for (std::size_t i = 0; i < batch->entries.size(); ++i) {
      const auto row = row_of.find(static_cast<int>(i));
      if (row != row_of.end())
        jobs.push_back(job_of(batch->entries[i], *row->second));
      else if (batch->state != SlurmBatch::State::submitted)
        jobs.push_back(unsubmitted_job(*batch, batch->entries[i]));
    }
  }
  return jobs;
}

std::unique_ptr<Executor> make_slurm_executor(const Workspace& workspace, const std::string& cluster_file) {
  const ClusterSettings settings = load_cluster_settings(cluster_file);
  return std::make_unique<SlurmExecutor>(workspace, settings, settings.worker.empty() ? find_worker() : "");
}

}  // namespace filo
