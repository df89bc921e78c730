#include "workspace/events.hpp"

#include <fcntl.h>
#include <sys/stat.h>
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

// Unset where it is none of 0 or more (within what a double holds).
std::optional<std::int64_t> sequence_of(const Json& event) {
  const auto sequence = event.find("seq");
  if (sequence == event.end() || !sequence->is_number_unsigned()) return std::nullopt;
  const auto number = sequence->get<std::uint64_t>();
  return number > (std::uint64_t{1} << 53) ? std::nullopt : std::optional(static_cast<std::int64_t>(number));
}

// The number after the last line's; 0 where that has none.
std::uint64_t after_last_line(std::string_view text) {
  if (text.ends_with('\n')) text.remove_suffix(1);
  const auto event = parse_event(text.substr(text.rfind('\n') + 1));
  return static_cast<std::uint64_t>(event ? sequence_of(*event).value_or(-1) + 1 : 0);
}

}  // namespace

EventLog::EventLog(const std::filesystem::path& path)
    : path_(path), file_(open_file(path, O_RDWR | O_CREAT | O_APPEND)) {
  const std::string existing = read_file(path);
  next_sequence_ = std::max(static_cast<std::uint64_t>(std::count(existing.begin(), existing.end(), '\n')),
                            after_last_line(existing));
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
  const auto sequence = event ? sequence_of(*event) : std::nullopt;
  return sequence ? std::optional(EventLine{attempt, *sequence, std::string(line)}) : std::nullopt;
}

void EventReader::start_near_end(std::uint64_t bytes) {
  std::error_code error;
  const auto size = std::filesystem::file_size(path_, error);
  if (error || size <= bytes) return;
  offset_ = size - bytes;
  skipping_ = true;
}

// Whether it was read before, in the file that this one took the place of.
bool EventReader::is_told(const Json& event) {
  const auto sequence = sequence_of(event);
  if (sequence) newest_ = std::max(newest_, *sequence);
  return told_ >= 0 && sequence.value_or(0) <= told_;
}

template <typename Use>
void EventReader::each_event(std::size_t most_bytes, const Use& use) {
  const FileDescriptor file(::open(path_.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat status {};
  if (!file.valid() || fstat(file.get(), &status) != 0) return;
  if (std::exchange(inode_, status.st_ino) != status.st_ino && newest_ >= 0) {
    told_ = newest_;
    offset_ = 0;
    skipping_ = false;
  }
  const auto is_wanted = [&](std::string_view line) {
    auto event = parse_event(line);
    return event && !is_told(*event) && use(std::move(*event), line);
  };
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
      if (!std::exchange(skipping_, false) && is_wanted(std::string_view(text).substr(start, end - start)))
        found = true;
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
  each_event(most_bytes, [&](const Json& event, std::string_view text) {
    const auto sequence = sequence_of(event);
    if (sequence) lines.push_back({attempt_, *sequence, std::string(text)});
    return sequence.has_value();
  });
  return lines;
}

std::vector<Json> EventReader::read(std::size_t most_bytes) {
  std::vector<Json> events;
  each_event(most_bytes, [&](Json&& event, std::string_view) {
    events.push_back(std::move(event));
    return true;
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
