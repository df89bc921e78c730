// attempts/N/events.jsonl: what happened in one attempt, one JSON object a line, append only (contract,
// docs/architecture.md).
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>

#include "base/files.hpp"
#include "base/http_poster.hpp"
#include "base/json.hpp"

namespace filo {

// Each line carries `seq` (from 0, without gaps), `time` (seconds since 1970) and `event`. A line is one write(2) on an
// O_APPEND descriptor, so a reader sees whole lines but for a torn last one after a power loss. Not thread-safe: rank
// 0's main thread owns it.
class EventLog {
 public:
  EventLog() = default;  // writes nowhere: the ranks other than 0
  // Continues an existing file after its last whole line. Throws Error when it cannot be opened.
  explicit EventLog(const std::filesystem::path& path);

  // Sends every further line there too. The file stays the truth: what cannot be sent is dropped.
  void also_post(std::unique_ptr<HttpPoster> poster) { poster_ = std::move(poster); }

  void write(const std::string& event, Json fields = Json::object());

 private:
  std::filesystem::path path_;
  FileDescriptor file_;
  std::unique_ptr<HttpPoster> poster_;  // none: nobody asked for events
  std::uint64_t next_sequence_ = 0;
};

}  // namespace filo
