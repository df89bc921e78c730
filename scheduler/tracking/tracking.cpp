#include "scheduler/tracking/tracking.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>

#include "base/log.hpp"
#include "base/signals.hpp"
#include "scheduler/tracking/tracker.hpp"

namespace filo {
namespace {

using Clock = std::chrono::steady_clock;

std::chrono::nanoseconds seconds(double s) { return std::chrono::nanoseconds(static_cast<std::int64_t>(s * 1e9)); }

}  // namespace

struct Tracking::State {
  explicit State(const Workspace& of) : workspace(of) {}

  struct News {
    std::shared_ptr<const Plan> plan;
    std::vector<RunState> states;
  };
  struct Followed {
    News latest;
    std::vector<std::unique_ptr<Tracker>> trackers;
    Clock::time_point due{};
  };

  const Workspace workspace;
  std::mutex mutex;
  std::condition_variable changed;
  std::map<std::string, News> news;  // by experiment
  bool closing = false;
  bool ended = false;
  std::atomic<bool> abandoned{false};  // nobody waits any more

  std::map<std::string, Followed> followed;  // of the thread alone

  void run() {
    std::unique_lock lock(mutex);
    for (bool last = false; !last;) {
      const auto has_news = [&] { return closing || !news.empty(); };
      auto due = Clock::time_point::max();
      for (const auto& [name, one] : followed) due = std::min(due, one.due);
      if (due == Clock::time_point::max())
        changed.wait(lock, has_news);
      else
        changed.wait_until(lock, due, has_news);
      last = closing;
      const auto fresh = std::exchange(news, {});
      lock.unlock();
      for (const auto& [name, latest] : fresh) take(name, latest);
      const auto now = Clock::now();
      for (auto one = followed.begin(); one != followed.end();)
        one = one->second.due <= now && !look(one->second) ? followed.erase(one) : std::next(one);
      lock.lock();
    }
    followed.clear();  // their locks
    ended = true;
    changed.notify_all();
  }

  void take(const std::string& name, const News& latest) {
    Followed& one = followed[name];
    if (one.latest.plan != latest.plan) {
      one.trackers.clear();  // first: the new ones want their locks
      try {
        for (auto& sink : make_sinks(workspace, latest.plan, planned_tracking(latest.plan->experiment)))
          one.trackers.push_back(std::make_unique<Tracker>(workspace, latest.plan, std::move(sink)));
      } catch (const std::exception& problem) {
        log_warning(problem.what());
      }
    }
    one.latest = latest;
    one.due = {};
  }

  // False: there will be no more of it.
  bool look(Followed& one) {
    bool caught_up = true;
    one.due = Clock::time_point::max();  // until there are news
    for (auto& tracker : one.trackers) {
      const auto look = tracker->look(one.latest.states, [&] { return abandoned.load(); });
      caught_up = caught_up && look.caught_up;
      if (!look.caught_up) one.due = std::min(one.due, Clock::now() + seconds(std::max(look.again_s, 1.0)));
    }
    return !caught_up || std::any_of(one.latest.states.begin(), one.latest.states.end(),
                                     [](const RunState& state) { return state.status == RunStatus::running; });
  }
};

Tracking::Tracking(const Workspace& workspace, double linger_s)
    : state_(std::make_shared<State>(workspace)), linger_s_(linger_s) {
  const SignalsBlocked blocked;
  std::thread([state = state_] { state->run(); }).detach();
}

Tracking::~Tracking() {
  std::unique_lock lock(state_->mutex);
  state_->closing = true;
  state_->changed.notify_all();
  state_->changed.wait_for(lock, seconds(linger_s_), [&] { return state_->ended; });
  state_->abandoned = true;
}

void Tracking::update(std::shared_ptr<const Plan> plan, std::vector<RunState> states) {
  const std::lock_guard lock(state_->mutex);
  const std::string name = plan->name;
  state_->news[name] = {std::move(plan), std::move(states)};
  state_->changed.notify_all();
}

}  // namespace filo
