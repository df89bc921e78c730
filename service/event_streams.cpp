#include "service/event_streams.hpp"

#include <algorithm>
#include <charconv>
#include <deque>

namespace filo::service {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto patience = std::chrono::seconds(5);  // with a file system that shows late what a worker wrote

std::string as_server_sent(const std::string& id, const std::string& data) {
  return "id: " + id + "\ndata: " + data + "\n\n";
}

class StageEvents : public http::EventSource {
 public:
  StageEvents(const Workspace& workspace, EventHub& hub, std::string stage, EventPosition position)
      : workspace_(workspace), hub_(hub), stage_(std::move(stage)), position_(position) {
    if (position_.attempt == 0) position_ = {std::max(1, workspace_.newest_attempt(stage_)), -1};
    open();
  }

  void on_wake(std::function<void()> wake) override { subscription_ = hub_.subscribe(stage_, std::move(wake)); }

  std::string next() override {
    std::string text;
    auto lines = file_.read_lines();
    for (const auto& line : lines) emit(line, text);
    take_posted(text);
    if (lines.empty() && text.empty() && Clock::now() >= look_for_attempt_) {
      look_for_attempt_ = Clock::now() + std::chrono::seconds(1);
      if (workspace_.newest_attempt(stage_) > position_.attempt) {
        position_ = {position_.attempt + 1, -1};
        open();
        return next();
      }
    }
    idle_ = text.empty() ? std::min(idle_ * 2, std::chrono::milliseconds(2000)) : std::chrono::milliseconds(100);
    return text;
  }

  std::chrono::milliseconds poll_interval() const override { return idle_; }

 private:
  void open() { file_ = EventReader(workspace_.events_file(stage_, position_.attempt), position_.attempt); }

  void emit(const EventLine& line, std::string& text) {
    if (line.attempt != position_.attempt || line.sequence <= position_.sequence) return;
    position_.sequence = line.sequence;
    text += as_server_sent(event_id(position_), line.text);
  }

  void take_posted(std::string& text) {
    if (!subscription_) return;
    for (auto& line : subscription_->take()) posted_.emplace_back(Clock::now(), std::move(line));
    while (!posted_.empty()) {
      const auto& [arrived, line] = posted_.front();
      const bool is_next = line.attempt == position_.attempt && line.sequence <= position_.sequence + 1;
      if (!is_next && line.attempt >= position_.attempt && Clock::now() - arrived < patience &&
          posted_.size() < most_posted)
        return;
      emit(line, text);
      posted_.pop_front();
    }
  }

  static constexpr std::size_t most_posted = 512;

  const Workspace& workspace_;
  EventHub& hub_;
  const std::string stage_;
  EventPosition position_;
  EventReader file_;
  std::shared_ptr<EventHub::Subscription> subscription_;
  std::deque<std::pair<Clock::time_point, EventLine>> posted_;
  Clock::time_point look_for_attempt_{};
  std::chrono::milliseconds idle_{100};
};

class WorkspaceEvents : public http::EventSource {
 public:
  WorkspaceEvents(EventHub& hub, const std::string& last_event_id) : hub_(hub) {
    const auto dash = last_event_id.find('-');
    number_ = hub_.newest_announcement();
    if (dash == std::string::npos) return;
    std::uint64_t number = 0;
    const char* end = last_event_id.data() + last_event_id.size();
    const bool sound = std::from_chars(last_event_id.data() + dash + 1, end, number).ptr == end;
    if (sound && last_event_id.substr(0, dash) == hub_.epoch() && hub_.announced_after(number).complete)
      number_ = number;
    else
      reset_ = true;
  }

  void on_wake(std::function<void()> wake) override {
    wake_ = std::make_shared<std::function<void()>>(std::move(wake));
    hub_.watch_announcements(wake_);
  }

  std::string next() override {
    std::string text;
    auto found = hub_.announced_after(number_);
    if (!found.complete) {
      number_ = hub_.newest_announcement();
      found.messages.clear();
      reset_ = true;
    }
    if (reset_ || first_) text = as_server_sent(id(), reset_ ? R"({"event":"reset"})" : R"({"event":"ready"})");
    reset_ = first_ = false;
    for (const auto& [number, message] : found.messages) {
      number_ = number;
      text += as_server_sent(id(), message);
    }
    return text;
  }

  std::chrono::milliseconds poll_interval() const override { return std::chrono::seconds(15); }

 private:
  std::string id() const { return hub_.epoch() + "-" + std::to_string(number_); }

  EventHub& hub_;
  std::uint64_t number_ = 0;
  bool reset_ = false;
  bool first_ = true;
  std::shared_ptr<std::function<void()>> wake_;
};

}  // namespace

std::optional<EventPosition> parse_event_id(const std::string& id) {
  EventPosition position;
  const char* end = id.data() + id.size();
  const auto attempt = std::from_chars(id.data(), end, position.attempt);
  if (attempt.ec != std::errc() || attempt.ptr == end || *attempt.ptr != '-' || position.attempt < 1)
    return std::nullopt;
  const auto sequence = std::from_chars(attempt.ptr + 1, end, position.sequence);
  if (sequence.ec != std::errc() || sequence.ptr != end || position.sequence < -1) return std::nullopt;
  return position;
}

std::string event_id(const EventPosition& position) {
  return std::to_string(position.attempt) + "-" + std::to_string(position.sequence);
}

std::shared_ptr<http::EventSource> stage_events(const Workspace& workspace, EventHub& hub, const std::string& stage,
                                                EventPosition position) {
  return std::make_shared<StageEvents>(workspace, hub, stage, position);
}

std::shared_ptr<http::EventSource> workspace_events(EventHub& hub, const std::string& last_event_id) {
  return std::make_shared<WorkspaceEvents>(hub, last_event_id);
}

}  // namespace filo::service
