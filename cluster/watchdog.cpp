#include "cluster/watchdog.hpp"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <future>
#include <thread>
#include <tuple>
#include <utility>

#include "base/error.hpp"
#include "base/files.hpp"
#include "base/json.hpp"
#include "base/log.hpp"
#include "base/text.hpp"

namespace filo {
namespace {

constexpr double longest_watched_s = 180;  // more than twice what a network file system may lag behind
constexpr double others_wait_s = 1.5;      // ranks other than 0
constexpr std::size_t most_ranks_told = 8;

double now_s() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

std::string named(int rank, const std::string& node) {
  return "rank " + std::to_string(rank) + (node.empty() ? "" : " (" + node + ")");
}

}  // namespace

Whereabouts::Whereabouts(int rank, int world_size, double timeout_s, std::string node)
    : rank_(rank),
      world_size_(world_size),
      timeout_s_(timeout_s),
      watched_s_(std::min(timeout_s / 2, longest_watched_s)),
      look_every_s_(std::min(watched_s_ / 12, 0.25)),
      node_(std::move(node)),
      others_(static_cast<std::size_t>(world_size)) {}

void Whereabouts::at(std::string place) {
  const std::lock_guard lock(mutex_);
  place_ = std::move(place);
  ++places_;
}

std::optional<Hang> Whereabouts::look(double now_s) {
  const std::lock_guard lock(mutex_);
  if (last_look_s_ >= 0) {
    const double passed = now_s - last_look_s_;
    awake_s_ += passed > 4 * look_every_s_ ? look_every_s_ : passed;
  }
  last_look_s_ = now_s;
  if (places_ != std::exchange(places_looked_at_, places_)) since_s_ = awake_s_;
  const bool was_watching = std::exchange(is_watching_, awake_s_ - since_s_ >= timeout_s_ - watched_s_);
  if (is_watching_ && !was_watching) watching_since_s_ = heard_all_s_ = awake_s_;
  if (!is_hung()) {
    hung_since_s_ = -1;
    return std::nullopt;
  }
  if (hung_since_s_ < 0) hung_since_s_ = awake_s_;
  const double wait_s = rank_ == 0 ? 0 : others_wait_s + 0.5 * std::min(rank_ - 1, 2);
  return awake_s_ - hung_since_s_ < wait_s ? std::nullopt : std::optional(describe());
}

bool Whereabouts::is_silent(const Other& other) const {
  return awake_s_ - std::max(other.change_s, watching_since_s_) >= silence_s();
}

bool Whereabouts::is_hung() const {
  if (awake_s_ - since_s_ < timeout_s_) return false;
  for (int rank = 0; rank < world_size_; ++rank) {
    const Other& other = others_[static_cast<std::size_t>(rank)];
    const double late_s = 2 * exchange_every_s();  // at most, where files come at once
    const bool has_stayed = other.places >= 0 && awake_s_ - other.since_s >= timeout_s_ - late_s;
    if (rank != rank_ && !has_stayed && !is_silent(other)) return false;
  }
  return true;
}

std::optional<std::string> Whereabouts::next_heartbeat() {
  const std::lock_guard lock(mutex_);
  const double every_s = is_watching_ ? exchange_every_s() : heartbeat_every_s();
  const bool is_due = heartbeats_ == 0 || awake_s_ - heartbeat_s_ >= every_s;
  if (world_size_ == 1 || places_ == 0 || !is_due) return std::nullopt;
  heartbeat_s_ = awake_s_;
  const Json json = {{"heartbeat", ++heartbeats_},
                     {"node", node_},
                     {"place", place_},
                     {"places", places_},
                     {"seconds", places_ == places_looked_at_ ? awake_s_ - since_s_ : 0}};
  return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

bool Whereabouts::wants_heartbeats() const {
  const std::lock_guard lock(mutex_);
  return is_watching_ && world_size_ > 1 && awake_s_ - heard_all_s_ >= exchange_every_s();
}

void Whereabouts::heard(int rank, const std::string& heartbeat) {
  const std::lock_guard lock(mutex_);
  Other& other = others_.at(static_cast<std::size_t>(rank));
  if (heartbeat == other.heartbeat) return;
  const Json json = Json::parse(heartbeat, nullptr, false);
  const auto places = static_cast<long>(number_of(json, "places", -1));
  if (places < 0) return;
  const double since_s = awake_s_ - number_of(json, "seconds");
  other.since_s = places == other.places ? std::min(other.since_s, since_s) : since_s;
  other.places = places;
  other.place = text_of(json, "place");
  other.node = text_of(json, "node");
  other.heartbeat = heartbeat;
  other.change_s = awake_s_;
}

void Whereabouts::heard_all() {
  const std::lock_guard lock(mutex_);
  heard_all_s_ = awake_s_;
}

Hang Whereabouts::describe() const {
  std::vector<Other> ranks = others_;
  const auto index = [](int rank) { return static_cast<std::size_t>(rank); };
  ranks[index(rank_)] = {
      .heartbeat = "", .place = place_, .node = node_, .places = places_, .since_s = since_s_, .change_s = awake_s_};
  const auto order = [&](int rank) {  // the first is to blame
    const Other& other = ranks[index(rank)];
    return std::tuple(rank == rank_ || !is_silent(other), other.places, rank);
  };
  const auto where = [&](int rank) {
    const Other& other = ranks[index(rank)];
    if (other.places < 0) return named(rank, other.node) + " was never heard of";
    return named(rank, other.node) + " at \"" + other.place + "\"" +
           formatted(awake_s_ - other.since_s,
                     rank != rank_ && is_silent(other) ? ", for %.0f s or more" : ", for %.0f s");
  };
  const bool files_answer = world_size_ == 1 || awake_s_ - heard_all_s_ < silence_s();
  int last = rank_;
  for (int rank = 0; files_answer && rank < world_size_; ++rank)
    if (order(rank) < order(last)) last = rank;
  std::string message = "the job hangs: no rank has come further for" + formatted(timeout_s_, " %.0f s") +
                        "; last heard of: " + where(last);
  if (!files_answer)
    return {.rank = last, .node = node_, .message = message + "; the file system of the workspace does not answer"};
  if (last != rank_ && is_silent(ranks[index(last)]))
    message += ", and no sign of life since (its process is stopped, or its node is gone)";
  std::size_t told = 0;
  for (int rank = 0; rank < world_size_; ++rank) {
    if (rank == last) continue;
    if (told++ == most_ranks_told) return {.rank = last, .node = ranks[index(last)].node, .message = message + ", ..."};
    message += (told == 1 ? "; the others: " : ", ") + where(rank);
  }
  return {.rank = last, .node = ranks[index(last)].node, .message = message};
}

// Two threads: one decides, and touches no file, since a file system that does not answer is one of the causes.
struct Watchdog::State {
  explicit State(WatchdogOptions with)
      : options(std::move(with)),
        whereabouts(options.rank, options.world_size, options.timeout_s, options.node),
        files([this](const std::stop_token& stop) { each_time(stop, [this] { exchange(); }); }),
        judge([this](const std::stop_token& stop) { each_time(stop, [this] { decide(); }); }) {}

  template <typename Work>
  void each_time(const std::stop_token& stop, const Work& work) {
    std::mutex mutex;
    std::condition_variable_any wake;
    std::unique_lock lock(mutex);
    while (!stop.stop_requested()) {
      work();
      wake.wait_for(lock, stop, std::chrono::duration<double>(whereabouts.look_every_s()), [] { return false; });
    }
  }

  // What cannot be written or read is not there: a rank's silence says so.
  void exchange() {
    try {
      if (const auto heartbeat = whereabouts.next_heartbeat())
        write_file_atomically(options.heartbeat_file(options.rank), *heartbeat);
    } catch (const std::exception& error) {
      log_debug(error.what());
    }
    if (!whereabouts.wants_heartbeats()) return;
    for (int rank = 0; rank < options.world_size; ++rank) {
      try {
        if (rank != options.rank) whereabouts.heard(rank, read_file(options.heartbeat_file(rank)));
      } catch (const std::exception& error) {
        log_debug(error.what());
      }
    }
    whereabouts.heard_all();
  }

  void decide() {
    const auto hang = whereabouts.look(now_s());
    if (!hang) return;
    std::promise<void> promise;
    auto reported = promise.get_future();
    std::thread([report = options.report, hang = *hang, promise = std::move(promise)]() mutable {
      try {
        report(hang);
      } catch (const std::exception& error) {
        log_warning(error.what());
      }
      promise.set_value();
    }).detach();
    reported.wait_for(std::chrono::seconds(1));
    options.end();
  }

  WatchdogOptions options;
  Whereabouts whereabouts;
  std::jthread files, judge;  // end before what they use
};

Watchdog::Watchdog() = default;
Watchdog::~Watchdog() = default;

void Watchdog::start(WatchdogOptions options) {
  if (options.timeout_s > 0) state_ = std::make_unique<State>(std::move(options));
}

void Watchdog::at(std::string place) {
  if (state_) state_->whereabouts.at(std::move(place));
}

}  // namespace filo
