#include "scheduler/control/run_progress.hpp"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <ostream>
#include <sstream>

#include "base/text.hpp"

namespace filo {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto between_lines = std::chrono::seconds(2);
constexpr int log_lines = 15;
constexpr std::size_t widest_label = 40;

struct TerminalSize {
  std::size_t columns = 80, rows = 24;
};

// Asked for each time: people change it.
TerminalSize terminal_size() {
  winsize size{};
  for (const int descriptor : {STDOUT_FILENO, STDERR_FILENO})
    if (ioctl(descriptor, TIOCGWINSZ, &size) == 0 && size.ws_col > 1) return {size.ws_col, size.ws_row};
  return {};
}

bool is_last(const Json& event) {
  return event["event"] == "progress" && event.contains("done") && event.contains("total") &&
         event["done"] == event["total"];
}

}  // namespace

RunProgress::RunProgress(const Workspace& workspace, const Plan& plan, std::ostream& out, bool terminal)
    : workspace_(workspace), plan_(plan), out_(out), terminal_(terminal) {}

RunProgress::~RunProgress() { clear_bars(); }

void RunProgress::line(const std::string& text) {
  clear_bars();
  out_ << text << "\n" << std::flush;
}

void RunProgress::clear_bars() {
  if (!bars_.empty()) out_ << "\r\033[J" << std::flush;
  bars_.clear();
}

void RunProgress::print_end(const PlannedStage& stage, int attempt) {
  const auto end = workspace_.outcome(stage.key, attempt);
  if (!end || end->outcome == "done") return;
  if (end->outcome != "failed") return line(stage.label + ": attempt " + std::to_string(attempt) + " " + end->reason);
  line(stage.label + ": attempt " + std::to_string(attempt) + " failed: " + end->reason);
  const std::string tail = workspace_.log_tail(stage.key, attempt, log_lines);
  if (tail.empty()) return;
  line("  last lines of " + workspace_.log_file(stage.key, attempt).string() + ":");
  std::istringstream lines(tail);
  for (std::string text; std::getline(lines, text);) line("    " + text);
}

void RunProgress::print_change(const PlannedStage& stage, const StageStatus& status, Seen& seen) {
  const bool was_running = seen.state == StageState::running;
  const bool ended = was_running && (status.attempt != seen.attempt || status.state != StageState::running);
  if (ended && status.state != StageState::done) print_end(stage, seen.attempt);
  const std::string count = "[" + std::to_string(done_) + "/" + std::to_string(plan_.stages.size()) + "] ";
  if (status.state == StageState::running && (!was_running || status.attempt != seen.attempt)) {
    line(count + stage.label + " (" + stage.key +
         "): " + (status.elsewhere ? status.reason : "attempt " + std::to_string(status.attempt)));
    seen.reader.assign(1, EventReader(workspace_.events_file(stage.key, status.attempt)));
    seen.meter = StageMeter();
  }
  if (status.state != seen.state) {
    const auto result = status.state == StageState::done ? workspace_.result(stage.key, stage.kind) : std::nullopt;
    if (result)
      line(count + stage.label + " (" + stage.key + "): done" +
           (was_running ? " in " + formatted(result->seconds, "%.1f s") : " before"));
    if (status.state == StageState::failed)
      line(stage.label + " (" + stage.key + "): failed for good: " + status.reason);
    if (status.state == StageState::stopped || status.state == StageState::cancelled)
      line(stage.label + " (" + stage.key + "): " + to_string(status.state) + ": " + status.reason);
    if (status.state == StageState::blocked) line(stage.label + " (" + stage.key + "): blocked: " + status.reason);
  }
  if (status.state != StageState::running) seen.reader.clear();
  seen.state = status.state;
  seen.attempt = status.attempt;
}

void RunProgress::follow(const PlannedStage& stage, Seen& seen) {
  if (seen.reader.empty()) return;
  for (const auto& event : seen.reader[0].read()) {
    seen.meter.add(event);
    const std::string text = describe_event(event);
    if (text.empty()) continue;
    const auto now = Clock::now();
    if (terminal_ || (now - seen.printed < between_lines && !is_last(event) && event["event"] != "epoch")) continue;
    seen.printed = now;
    line(stage.label + " " + text);
  }
}

void RunProgress::draw_bars() {
  std::vector<std::pair<const std::string*, std::string>> running;
  std::size_t widest = 0;
  for (const auto& stage : plan_.stages) {
    const auto seen = seen_.find(stage.key);
    if (seen == seen_.end() || seen->second.state != StageState::running || !seen->second.meter.has_begun()) continue;
    running.emplace_back(&stage.label, seen->second.meter.line());
    widest = std::max(widest, std::min(widest_label, stage.label.size()));
  }
  const auto [columns, rows] = terminal_size();
  const std::size_t most = std::max<std::size_t>(rows / 2, 2);
  std::vector<std::string> lines;
  for (const auto& [label, bar] : running) {
    if (lines.size() + 1 == most && running.size() > most) {
      lines.push_back("and " + std::to_string(running.size() - lines.size()) + " more stages");
      break;
    }
    std::string name = cut_text(*label, widest);
    name.resize(std::max(name.size(), widest), ' ');
    lines.push_back(cut_text(name + "  " + bar, columns - 1));  // a line that wraps would be two
  }
  std::string text;
  for (const auto& one : lines) text += (text.empty() ? "" : "\n") + one;
  if (text == bars_) return;
  clear_bars();
  bars_ = text;
  if (text.empty()) return;
  out_ << text << "\r";
  if (lines.size() > 1) out_ << "\033[" << lines.size() - 1 << "A";
  out_ << std::flush;
}

void RunProgress::update(const std::vector<StageStatus>& statuses) {
  done_ = static_cast<std::size_t>(std::count_if(statuses.begin(), statuses.end(),
                                                 [](const auto& status) { return status.state == StageState::done; }));
  for (std::size_t i = 0; i < statuses.size(); ++i) {
    Seen& seen = seen_[statuses[i].key];
    follow(plan_.stages[i], seen);
    if (seen.state != statuses[i].state || seen.attempt != statuses[i].attempt)
      print_change(plan_.stages[i], statuses[i], seen);
  }
  if (terminal_) draw_bars();
}

}  // namespace filo
