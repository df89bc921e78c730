#include "trainer/event_log.hpp"

#include <fcntl.h>

#include <algorithm>
#include <chrono>

#include "base/host.hpp"

namespace filo {

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

}  // namespace filo
