#include "service/event_hub.hpp"

#include <algorithm>

#include "base/text.hpp"
#include "scheduler/control/run.hpp"

namespace filo::service {
namespace {

constexpr std::size_t most_waiting_lines = 256;
constexpr std::size_t most_announcements = 1000;
constexpr std::size_t most_announced_bytes = 4 << 20;
constexpr std::size_t most_latest_bytes = 200;

double number_of(const Json& event, const char* key) {
  return event.contains(key) && event[key].is_number() ? event[key].get<double>() : 0;
}

double fraction_of(const Json& event) {
  const std::string kind = event["event"];
  double done = number_of(event, "done"), total = number_of(event, "total");
  if (kind != "progress") {
    total = number_of(event, "epochs");
    done = number_of(event, "epoch");
    const double steps = number_of(event, "steps");
    if (kind == "step" && steps > 0) done += number_of(event, "epoch_step") / steps - 1;
  }
  return total > 0 && done >= 0 ? std::min(1.0, done / total) : 0;
}

}  // namespace

std::optional<EventLine> parse_event_line(std::string_view line, int attempt) {
  const Json event = Json::parse(line.begin(), line.end(), nullptr, false);
  if (!event.is_object()) return std::nullopt;
  const auto kind = event.find("event"), sequence = event.find("seq");
  if (kind == event.end() || !kind->is_string() || sequence == event.end() || !sequence->is_number_unsigned())
    return std::nullopt;
  const auto number = sequence->get<std::uint64_t>();
  if (number > (std::uint64_t{1} << 53)) return std::nullopt;
  return EventLine{attempt, static_cast<std::int64_t>(number), std::string(line)};
}

std::vector<EventLine> EventHub::Subscription::take() {
  const std::lock_guard lock(mutex_);
  std::vector<EventLine> lines(std::make_move_iterator(lines_.begin()), std::make_move_iterator(lines_.end()));
  lines_.clear();
  return lines;
}

std::shared_ptr<EventHub::Subscription> EventHub::subscribe(const std::string& stage, std::function<void()> wake) {
  auto subscription = std::make_shared<Subscription>();
  subscription->wake_ = std::move(wake);
  const std::lock_guard lock(mutex_);
  auto& all = entries_[stage].subscriptions;
  std::erase_if(all, [](const auto& one) { return one.expired(); });
  all.push_back(subscription);
  return subscription;
}

std::size_t EventHub::accept(const std::string& stage, std::vector<EventLine> lines, Source source) {
  if (lines.empty()) return 0;
  std::vector<std::shared_ptr<Subscription>> subscriptions;
  std::size_t taken = 0;
  {
    const std::lock_guard lock(mutex_);
    Entry& entry = entries_[stage];
    if (source == Source::post) entry.last_post = Clock::now();
    const auto is_new = [&](const EventLine& line) {
      if (line.attempt > entry.latest.attempt) {
        entry.latest = Latest{.attempt = line.attempt};
        entry.next_sequence = 0;
      }
      if (line.attempt < entry.latest.attempt || line.sequence < entry.next_sequence) return false;
      entry.next_sequence = line.sequence + 1;
      return true;
    };
    std::size_t kept = 0;
    for (auto& line : lines)
      if (is_new(line)) std::swap(lines[kept++], line);
    counters_.duplicates += lines.size() - kept;
    lines.resize(kept);
    taken = kept;
    (source == Source::post ? counters_.posted : counters_.from_files) += kept;
    // Only the last line that people would read is put into words.
    for (auto line = lines.rbegin(); line != lines.rend(); ++line) {
      const Json event = Json::parse(line->text, nullptr, false);
      std::string text = describe_event(event);
      if (text.empty()) continue;
      entry.latest.text = cut_text(text, most_latest_bytes);
      entry.latest.done = fraction_of(event);
      entry.latest.sequence = line->sequence;
      entry.latest.time = number_of(event, "time");
      if (!entry.changed) changed_.push_back(stage);
      entry.changed = true;
      break;
    }
    if (kept > 0)
      for (const auto& one : entry.subscriptions)
        if (auto alive = one.lock()) subscriptions.push_back(std::move(alive));
  }
  for (const auto& subscription : subscriptions) {
    {
      const std::lock_guard lock(subscription->mutex_);
      for (const auto& line : lines) subscription->lines_.push_back(line);
      while (subscription->lines_.size() > most_waiting_lines) subscription->lines_.pop_front();
    }
    subscription->wake_();
  }
  return taken;
}

bool EventHub::knows(const std::string& stage, int attempt) const {
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find(stage);
  return found != entries_.end() && found->second.latest.attempt == attempt;
}

std::optional<EventHub::Clock::time_point> EventHub::last_post(const std::string& stage) const {
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find(stage);
  if (found == entries_.end() || found->second.last_post == Clock::time_point{}) return std::nullopt;
  return found->second.last_post;
}

std::optional<EventHub::Latest> EventHub::latest(const std::string& stage) const {
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find(stage);
  if (found == entries_.end() || found->second.latest.text.empty()) return std::nullopt;
  return found->second.latest;
}

void EventHub::announce(const Json& message) {
  std::vector<std::shared_ptr<std::function<void()>>> watchers;
  {
    const std::lock_guard lock(mutex_);
    announcements_.emplace_back(++announced_, message.dump(-1, ' ', false, Json::error_handler_t::replace));
    announced_bytes_ += announcements_.back().second.size();
    while (announcements_.size() > most_announcements || announced_bytes_ > most_announced_bytes) {
      announced_bytes_ -= announcements_.front().second.size();
      announcements_.pop_front();
    }
    std::erase_if(watchers_, [](const auto& one) { return one.expired(); });
    for (const auto& one : watchers_)
      if (auto alive = one.lock()) watchers.push_back(std::move(alive));
  }
  for (const auto& wake : watchers) (*wake)();
}

void EventHub::announce_progress(std::size_t most) {
  Json message = {{"event", "progress"}, {"stages", Json::array()}};
  {
    const std::lock_guard lock(mutex_);
    for (auto stage = changed_.rbegin(); stage != changed_.rend(); ++stage) {
      const auto found = entries_.find(*stage);
      if (found == entries_.end()) continue;
      Entry& entry = found->second;
      entry.changed = false;
      if (message["stages"].size() < most)
        message["stages"].push_back({{"stage", *stage},
                                     {"attempt", entry.latest.attempt},
                                     {"progress", entry.latest.text},
                                     {"done", entry.latest.done}});
    }
    changed_.clear();
  }
  if (!message["stages"].empty()) announce(message);
}

void EventHub::keep_only(const std::function<bool(const std::string&)>& running) {
  const std::lock_guard lock(mutex_);
  for (auto entry = entries_.begin(); entry != entries_.end();) {
    std::erase_if(entry->second.subscriptions, [](const auto& one) { return one.expired(); });
    entry = entry->second.subscriptions.empty() && !running(entry->first) ? entries_.erase(entry) : std::next(entry);
  }
}

EventHub::Announcements EventHub::announced_after(std::uint64_t number) const {
  const std::lock_guard lock(mutex_);
  Announcements found;
  found.complete = number <= announced_ &&
                   (announcements_.empty() ? number == announced_ : announcements_.front().first <= number + 1);
  for (const auto& message : announcements_)
    if (message.first > number) found.messages.push_back(message);
  return found;
}

std::uint64_t EventHub::newest_announcement() const {
  const std::lock_guard lock(mutex_);
  return announced_;
}

void EventHub::watch_announcements(const std::shared_ptr<std::function<void()>>& wake) {
  const std::lock_guard lock(mutex_);
  watchers_.push_back(wake);
}

std::size_t EventHub::subscribers() const {
  const std::lock_guard lock(mutex_);
  std::size_t count = 0;
  for (const auto& [stage, entry] : entries_)
    count += static_cast<std::size_t>(std::count_if(entry.subscriptions.begin(), entry.subscriptions.end(),
                                                    [](const auto& one) { return !one.expired(); }));
  for (const auto& watcher : watchers_) count += watcher.expired() ? 0 : 1;
  return count;
}

std::size_t EventHub::stages() const {
  const std::lock_guard lock(mutex_);
  return entries_.size();
}

}  // namespace filo::service
