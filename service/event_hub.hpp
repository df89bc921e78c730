// Where events of running stages meet those who watch them. Nothing here is kept for good: events.jsonl is the truth.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/json.hpp"
#include "workspace/events.hpp"

namespace filo::service {

// Memory is bounded by the number of running stages: per stage one short text, and for those that somebody watches the
// last events. Thread-safe.
class EventHub {
 public:
  using Clock = std::chrono::steady_clock;

  // Somebody's view of one stage: what arrived since, at most 256 events; older ones are dropped, the file has them.
  class Subscription {
   public:
    std::vector<EventLine> take();

   private:
    friend class EventHub;
    std::mutex mutex_;
    std::deque<EventLine> lines_;
    std::function<void()> wake_;
  };
  std::shared_ptr<Subscription> subscribe(const std::string& stage, std::function<void()> wake);

  enum class Source { post, file };
  // Events of one attempt in the order of their sequence numbers. What came before (by another way, or twice) is left
  // out, and so is an older attempt's. Returns how many were new.
  std::size_t accept(const std::string& stage, std::vector<EventLine> lines, Source source);

  // Whether events of this attempt were accepted before.
  bool knows(const std::string& stage, int attempt) const;
  // When a worker last posted events of the stage.
  std::optional<Clock::time_point> last_post(const std::string& stage) const;

  struct Latest {
    int attempt = 0;
    std::int64_t sequence = -1;
    std::string text{};  // "main epoch 2 step 3/8 loss 0.41"
    double done = 0;     // 0 to 1 where the event tells
    double time = 0;     // the worker's clock
  };
  std::optional<Latest> latest(const std::string& stage) const;

  // What happened to the workspace as a whole, for those who watch all of it. `message` is a JSON object with "event".
  void announce(const Json& message);
  // Announces the latest progress of stages that changed since, at most `most` of them.
  void announce_progress(std::size_t most);
  // Leaves out stages that do not run any more.
  void keep_only(const std::function<bool(const std::string& stage)>& running);

  struct Announcements {
    bool complete = true;  // false: some between `after` and these are not kept any more
    std::vector<std::pair<std::uint64_t, std::string>> messages;
  };
  Announcements announced_after(std::uint64_t number) const;
  std::uint64_t newest_announcement() const;
  // Changes with every start of a server: numbers of another one mean nothing here.
  const std::string& epoch() const { return epoch_; }
  void watch_announcements(const std::shared_ptr<std::function<void()>>& wake);

  struct Counters {
    std::atomic<std::uint64_t> posted{0}, from_files{0}, duplicates{0};
  };
  const Counters& counters() const { return counters_; }
  std::size_t subscribers() const;
  std::size_t stages() const;

 private:
  struct Entry {
    Latest latest;
    std::int64_t next_sequence = 0;
    Clock::time_point last_post{};
    bool changed = false;
    std::vector<std::weak_ptr<Subscription>> subscriptions;
  };

  mutable std::mutex mutex_;
  std::unordered_map<std::string, Entry> entries_;
  std::vector<std::string> changed_;
  std::deque<std::pair<std::uint64_t, std::string>> announcements_;
  std::size_t announced_bytes_ = 0;
  std::uint64_t announced_ = 0;
  std::vector<std::weak_ptr<std::function<void()>>> watchers_;
  Counters counters_;
  const std::string epoch_ = std::to_string(std::chrono::system_clock::now().time_since_epoch().count());
};

}  // namespace filo::service
