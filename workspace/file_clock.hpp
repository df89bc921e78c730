// The clock by which a workspace's files are stamped: the file server's, where the workspace lies on one. Hosts' own
// clocks may be minutes apart, so the age of a file that another host wrote is told by this one alone.
#pragma once

#include <chrono>
#include <filesystem>
#include <mutex>
#include <optional>

namespace filo {

// What the file system stamps a file with that is touched now, seconds since 1970; the file, and its folder, are made
// where they are not there. Unset: it cannot be written.
std::optional<double> time_of_touch(const std::filesystem::path& path);

// Thread-safe.
class FileClock {
 public:
  // `file`: of this host alone, made when it is not there; nothing stands in it.
  explicit FileClock(std::filesystem::path file) : file_(std::move(file)) {}

  // Seconds since 1970. Touches the file at most every half a minute. By this machine's clock where the file cannot be
  // written (a workspace that may only be read).
  double now_s();

  // Seconds since `path` was written or touched, as its server has it now (it is opened, so that NFS asks). 1e9 where
  // there is none.
  double age_s(const std::filesystem::path& path);

 private:
  using Steady = std::chrono::steady_clock;
  std::filesystem::path file_;
  std::mutex mutex_;
  std::optional<Steady::time_point> asked_;
  double ahead_s_ = 0;  // of the steady clock
};

}  // namespace filo
