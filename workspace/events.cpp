#include "workspace/events.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "base/host.hpp"

namespace filo {
namespace {

constexpr std::size_t longest_line = 1 << 20;

// "?" where it is not told.
std::string number_text(const Json& event, const char* key, const char* format) {
  if (!event.contains(key) || !event[key].is_number()) return "?";
  char text[64];
  std::snprintf(text, sizeof text, format, event[key].get<double>());
  return text;
}

}  // namespace

EventLog::EventLog(const std::filesystem::path& path)
    : path_(path), file_(open_file(path, O_RDWR | O_CREAT | O_APPEND)) {
  const std::string existing = read_file(path);
  next_sequence_ = static_cast<std::uint64_t>(std::count(existing.begin(), existing.end(), '\n'));
  if (!existing.empty() && existing.back() != '\n') {  // a torn line: end it, so that readers can skip it by itself
    write_all(file_.get(), "\n", path_);
    ++next_sequence_;
  }
}

void EventLog::write(const std::string& event, Json fields) {
  if (!file_.valid()) return;
  fields["seq"] = next_sequence_++;
  fields["time"] = wall_time_s();
  fields["event"] = event;
  const std::string line = fields.dump();
  write_all(file_.get(), line + "\n", path_);
  if (poster_) poster_->post(line);
}

std::optional<Json> parse_event(std::string_view line) {
  Json event = Json::parse(line.begin(), line.end(), nullptr, false);
  if (!event.is_object()) return std::nullopt;
  const auto kind = event.find("event");
  if (kind == event.end() || !kind->is_string()) return std::nullopt;
  return event;
}

std::optional<EventLine> parse_event_line(std::string_view line, int attempt) {
  const auto event = parse_event(line);
  if (!event) return std::nullopt;
  const auto sequence = event->find("seq");
  if (sequence == event->end() || !sequence->is_number_unsigned()) return std::nullopt;
  const auto number = sequence->get<std::uint64_t>();
  if (number > (std::uint64_t{1} << 53)) return std::nullopt;
  return EventLine{attempt, static_cast<std::int64_t>(number), std::string(line)};
}

void EventReader::start_near_end(std::uint64_t bytes) {
  std::error_code error;
  const auto size = std::filesystem::file_size(path_, error);
  if (error || size <= bytes) return;
  offset_ = size - bytes;
  skipping_ = true;
}

template <typename Use>
void EventReader::each_line(std::size_t most_bytes, const Use& use) {
  const FileDescriptor file(::open(path_.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.valid()) return;
  std::string text;
  bool found = false;
  for (std::size_t total = 0; total < most_bytes;) {
    char buffer[16 << 10];
    const ssize_t got = pread(file.get(), buffer, sizeof buffer, static_cast<off_t>(offset_ + text.size()));
    if (got <= 0) break;
    text.append(buffer, static_cast<std::size_t>(got));
    total += static_cast<std::size_t>(got);
    std::size_t start = 0;
    for (std::size_t end; (end = text.find('\n', start)) != std::string::npos; start = end + 1)
      if (!std::exchange(skipping_, false) && use(std::string_view(text).substr(start, end - start))) found = true;
    if (text.size() - start > longest_line) {
      skipping_ = true;
      start = text.size();
    }
    offset_ += start;
    text.erase(0, start);
    if (total >= most_bytes && !found) most_bytes += sizeof buffer;  // nothing yet is not the end
  }
}

std::vector<EventLine> EventReader::read_lines(std::size_t most_bytes) {
  std::vector<EventLine> lines;
  each_line(most_bytes, [&](std::string_view text) {
    auto line = parse_event_line(text, attempt_);
    if (line) lines.push_back(std::move(*line));
    return line.has_value();
  });
  return lines;
}

std::vector<Json> EventReader::read(std::size_t most_bytes) {
  std::vector<Json> events;
  each_line(most_bytes, [&](std::string_view text) {
    auto event = parse_event(text);
    if (event) events.push_back(std::move(*event));
    return event.has_value();
  });
  return events;
}

std::string describe_event(const Json& event) {
  const std::string kind = text_of(event, "event");
  if (kind == "progress")
    return number_text(event, "done", "%.0f") + "/" + number_text(event, "total", "%.0f") + " " +
           text_of(event, "unit");
  if (kind == "step")
    return text_of(event, "phase") + " epoch " + number_text(event, "epoch", "%.0f") + " step " +
           number_text(event, "epoch_step", "%.0f") + "/" + number_text(event, "steps", "%.0f") + " loss " +
           number_text(event, "loss", "%.4f") +
           (event.contains("images_per_s") ? " (" + number_text(event, "images_per_s", "%.1f") + " images/s)" : "");
  if (kind == "epoch")
    return text_of(event, "phase") + " epoch " + number_text(event, "epoch", "%.0f") + " ended" +
           (event.contains("loss") ? ", loss " + number_text(event, "loss", "%.4f") : "");
  return "";
}

double progress_fraction(const Json& event) {
  const std::string kind = text_of(event, "event");
  double done = number_of(event, "done"), total = number_of(event, "total");
  if (kind != "progress") {
    total = number_of(event, "epochs");
    done = number_of(event, "epoch");
    const double steps = number_of(event, "steps");
    if (kind == "step" && steps > 0) done += number_of(event, "epoch_step") / steps - 1;
  }
  return total > 0 && done >= 0 ? std::min(1.0, done / total) : 0;
}

}  // namespace filo
