#include "scheduler/tracking/tracker.hpp"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "base/host.hpp"
#include "base/log.hpp"
#include "base/secrets.hpp"
#include "workspace/held_lock.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;
constexpr int file_format = 1;
constexpr double between_saves_s = 5;

}  // namespace

struct Tracker::Run {
  TrackedRun run;
  // As the file keeps it.
  RunPosition position{};
  std::string status{};  // told last; "": none
  Json memory{};         // the sink's; null: nothing was told
  // Of this process.
  std::optional<RunFollower> follower{};
  std::optional<RunState> caught_up_at{};
  bool looked_for = false;  // whether the sink still has it
};

Tracker::Tracker(const Workspace& workspace, std::shared_ptr<const Plan> plan, std::unique_ptr<RunSink> sink,
                 TrackerOptions options)
    : workspace_(workspace),
      plan_(std::move(plan)),
      sink_(std::move(sink)),
      options_(options),
      file_(workspace.tracking_file(plan_->name, sink_->name())) {}

Tracker::~Tracker() = default;

// Takes the lock and reads the file, the first time.
bool Tracker::open(Look& look) {
  if (lock_.valid()) return true;
  fs::create_directories(file_.parent_path());
  LockAttempt attempt = try_held_lock(fs::path(file_).replace_extension(".lock"));
  if (!attempt.lock.valid()) {
    look.held = true;
    look.trouble = file_.string() + " is " + attempt.holder;
    look.again_s = options_.first_pause_s;
    return false;
  }
  load();
  lock_ = std::move(attempt.lock);
  return true;
}

void Tracker::load() {
  runs_.clear();
  former_.clear();
  for (auto& run : tracked_runs(*plan_)) runs_.push_back({.run = std::move(run)});
  shared_memory_ = {{"token", random_token().substr(0, 16)}};
  if (!fs::exists(file_)) return save();
  const Json json = read_json(file_);
  try {
    if (json.at("format") != file_format)
      throw Error("tracking: " + file_.string(), "found format " + json.at("format").dump() + ", expected 1");
    shared_memory_ = json.at("shared");
    failures_ = json.at("failures");
    not_before_ = json.at("not_before");
    trouble_ = json.at("trouble");
    former_ = json.at("runs").get<std::map<std::string, Json>>();
    for (auto& run : runs_) {
      const auto known = former_.find(run.run.key);
      if (known == former_.end()) continue;
      run.position = run_position_from_json(known->second);
      run.status = known->second.at("status");
      run.memory = known->second.at("memory");
      former_.erase(known);
    }
  } catch (const Json::exception& problem) {
    throw Error("tracking: " + file_.string(), "found another form (" + told(problem) +
                                                   "), expected what filo wrote; without this file all is told anew");
  }
}

void Tracker::save() {
  Json json = {{"format", file_format},     {"shared", shared_memory_}, {"failures", failures_},
               {"not_before", not_before_}, {"trouble", trouble_},      {"runs", former_}};
  for (const auto& run : runs_) {
    if (run.position == RunPosition() && run.memory.is_null()) continue;
    Json& one = json["runs"][run.run.key] = to_json(run.position);
    one["status"] = run.status;
    one["memory"] = run.memory;
  }
  write_file_atomically(file_, json.dump() + "\n");
  dirty_ = false;
  saved_ = wall_time_s();
}

// True: nothing is left that the state says to be there.
bool Tracker::tell(Run& run, const RunState& state, const std::function<bool()>& stop, Look& look) {
  if (!std::exchange(run.looked_for, true) && !run.memory.is_null() && sink_->is_lost(run.memory)) {
    run.memory = nullptr;
    run.position = {};
    run.status = "";
  }
  if (!run.follower) run.follower.emplace(workspace_, run.run, run.position);
  while (!stop()) {
    const auto batch = run.follower->next(state, options_.batch_points);
    if (!batch) return tell_status(run, state);
    if (batch->says_something()) sink_->tell(run.run, run.memory, shared_memory_, *batch);
    run.position = batch->after;
    look.points += batch->points.size();
    dirty_ = true;
    if (wall_time_s() - saved_ > between_saves_s) save();
  }
  return false;
}

// False: the result of an evaluation that is done is not to be seen yet, as on a file system that shows files late.
bool Tracker::tell_status(Run& run, const RunState& state) {
  if (state.status == RunStatus::finished && !run.position.result) return false;
  if (!run.memory.is_null() && run.status != to_string(state.status)) {
    sink_->set_status(run.run, run.memory, state.status, run.position.time);
    run.status = to_string(state.status);
    dirty_ = true;
  }
  if (state.status != RunStatus::running) run.follower.reset();
  return true;
}

void Tracker::look_at_runs(const std::vector<RunState>& states, const std::function<bool()>& stop, Look& look) {
  look.caught_up = true;
  for (auto& run : runs_) {
    const RunState& state = states.at(run.run.trial);
    if (state.attempt == 0 && state.status != RunStatus::finished) continue;
    if (run.caught_up_at == state && !state.training) continue;
    try {
      run.caught_up_at.reset();
      if (tell(run, state, stop, look))
        run.caught_up_at = state;
      else
        look.caught_up = false;
      if (stop()) return;
    } catch (const std::exception& problem) {  // it goes on from what was told
      run.follower.reset();
      look.caught_up = false;
      look.trouble = problem.what();
      if (dynamic_cast<const SinkAway*>(&problem) != nullptr) return;
    }
  }
}

// Each trouble is told once on the log, however many processes meet it, and so is its end.
void Tracker::note_trouble(const std::string& trouble) {
  if (trouble.empty() && trouble_.empty()) return;
  dirty_ = true;
  if (trouble.empty()) {
    log_info("tracking: " + plan_->name + ": " + sink_->place() + " can be told again");
    failures_ = 0;
    not_before_ = 0;
  } else {
    if (trouble != trouble_)
      log_warning(trouble + "; " + plan_->name + " goes on, and what is missing there is told later (filo track " +
                  plan_->name + ")");
    const double pause =
        std::min(options_.longest_pause_s, options_.first_pause_s * std::exp2(std::min(failures_, 30)));
    ++failures_;
    not_before_ = wall_time_s() + pause;
  }
  trouble_ = trouble;
}

Tracker::Look Tracker::look(const std::vector<RunState>& states, const std::function<bool()>& stop, bool at_once) {
  Look look;
  try {
    if (!open(look)) return look;
    const double pause = not_before_ - wall_time_s();
    // A clock that was set back must not stop it.
    if (!at_once && pause > 0 && pause <= options_.longest_pause_s) {
      look.trouble = trouble_;
      look.again_s = pause;
      return look;
    }
    look_at_runs(states, stop, look);
    note_trouble(look.trouble);
    if (dirty_) save();
  } catch (const std::exception& problem) {
    look.caught_up = false;
    look.trouble = problem.what();
    if (look.trouble != trouble_) log_warning(look.trouble);
    trouble_ = look.trouble;
  }
  if (!look.trouble.empty()) look.again_s = std::max(options_.first_pause_s, not_before_ - wall_time_s());
  return look;
}

std::size_t Tracker::runs_told() const {
  return static_cast<std::size_t>(
      std::count_if(runs_.begin(), runs_.end(), [](const Run& run) { return !run.memory.is_null(); }));
}

}  // namespace filo
