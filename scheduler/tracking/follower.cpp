#include "scheduler/tracking/follower.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <cmath>

#include "workspace/metric_history.hpp"

namespace filo {
namespace {

std::int64_t whole_number(const Json& event, const char* key, std::int64_t otherwise) {
  const auto found = event.find(key);
  return found != event.end() && found->is_number_integer() ? found->get<std::int64_t>() : otherwise;
}

std::string name_of(const ToldNumber& number) {
  std::string name = number.phase.empty() ? "train" : number.phase;
  name += number.unit == "epoch" ? "/epoch/" : "/";
  for (const char c : number.name) name += c == '.' ? '/' : c;
  return name;
}

// The step from which on the training tells again what it has told, if this event begins that.
std::optional<std::int64_t> restart_at(const Json& event, std::int64_t told) {
  const std::string kind = text_of(event, "event");
  if (kind == "resumed" && whole_number(event, "step", told) < told) return whole_number(event, "step", told) + 1;
  if (kind == "step" && whole_number(event, "step", told + 1) <= told) return whole_number(event, "step", told);
  return std::nullopt;
}

// False: the event begins a further batch.
bool take(const Json& event, RunBatch& batch) {
  const auto restart = restart_at(event, batch.after.step);
  const double time = number_of(event, "time");
  if (restart) {
    if (batch.says_something()) return false;
    batch.restart = restart;
    batch.restart_time = time;
    batch.after.step = *restart - 1;
  }
  if (text_of(event, "event") == "step")
    batch.after.step = std::max(batch.after.step, whole_number(event, "step", batch.after.step));
  for (const auto& number : told_numbers(event))
    if (number.value)
      batch.points.push_back({.name = name_of(number),
                              .value = *number.value,
                              .step = number.unit == "epoch" ? batch.after.step : number.at,
                              .time = time});
  batch.after.sequence = whole_number(event, "seq", batch.after.sequence);
  batch.after.time = time;
  return true;
}

void add_numbers(const Json& metrics, const std::string& name, RunPoint like, std::vector<RunPoint>& points) {
  for (const auto& [key, value] : metrics.items()) {
    if (value.is_object()) {
      add_numbers(value, key == "classes" ? name : name + "/" + key, like, points);
    } else if (value.is_number() && std::isfinite(value.get<double>()) && key != "images") {
      like.name = name + "/" + key;
      like.value = value;
      points.push_back(like);
    }
  }
}

double modified(const std::filesystem::path& file) {
  struct stat status {};
  if (stat(file.c_str(), &status) != 0) return 0;
  return static_cast<double>(status.st_mtim.tv_sec) + static_cast<double>(status.st_mtim.tv_nsec) * 1e-9;
}

}  // namespace

Json to_json(const RunPosition& position) {
  return {{"attempt", position.attempt},
          {"sequence", position.sequence},
          {"step", position.step},
          {"result", position.result},
          {"time", position.time}};
}

RunPosition run_position_from_json(const Json& json) {
  return {.attempt = json.at("attempt"),
          .sequence = json.at("sequence"),
          .step = json.at("step"),
          .result = json.at("result"),
          .time = json.at("time")};
}

RunFollower::RunFollower(const Workspace& workspace, const TrackedRun& run, const RunPosition& position)
    : workspace_(workspace), train_(run.train), evaluate_(run.key), position_(position) {
  if (position_.attempt > 0) reader_ = EventReader(workspace.events_file(train_, position_.attempt), position_.attempt);
}

// Fills `pending_`, from the next attempt where this one has no more. False: nothing new.
bool RunFollower::refill(const RunState& state, RunPosition& position) {
  while (pending_.empty()) {
    auto events = position.attempt > 0 ? reader_.read(1 << 20) : std::vector<Json>();
    for (auto& event : events)
      if (whole_number(event, "seq", -1) > position.sequence) pending_.push_back(std::move(event));
    if (!events.empty()) continue;
    if (state.attempt <= position.attempt) return false;
    ++position.attempt;
    position.sequence = -1;
    reader_ = EventReader(workspace_.events_file(train_, position.attempt), position.attempt);
  }
  return true;
}

void RunFollower::add_result(RunBatch& batch) const {
  const auto result = workspace_.result(evaluate_, StageKind::evaluate);
  if (!result) return;
  const RunPoint like{.name = {}, .step = batch.after.step, .time = modified(workspace_.result_file(evaluate_))};
  add_numbers(result->metrics, "test", like, batch.points);
  batch.after.result = true;
  batch.after.time = like.time;
}

std::optional<RunBatch> RunFollower::next(const RunState& state, std::size_t most_points) {
  RunBatch batch;
  batch.after = position_;
  bool more = true;
  while (batch.points.size() < most_points && (more = refill(state, batch.after)) && take(pending_.front(), batch))
    pending_.pop_front();
  if (!more && state.status == RunStatus::finished && !batch.after.result) add_result(batch);
  if (batch.after == position_) return std::nullopt;
  position_ = batch.after;
  return batch;
}

}  // namespace filo
