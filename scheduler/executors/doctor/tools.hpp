// What the checks share.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "scheduler/executors/doctor/doctor.hpp"

namespace filo {

inline constexpr double skew_warning_s = 2, skew_bad_s = 30;  // of clocks
// A stage that is not there: the worker says so after MPI is up, and puts its rank before it.
inline constexpr const char* no_stage = "0000000000000000";
// Whether two ranks of the worker came up, by what they printed.
bool two_ranks_came_up(const std::string& output);

std::string first_line(const std::string& text);
std::string shortened(std::string text);  // one line of at most 300 bytes

struct CommandResult {
  bool ok = false;
  std::string output;  // stdout and stderr; why it could not be started
};
CommandResult try_to_run(const std::vector<std::string>& arguments, double timeout_s = 30);

// Made in `parent`, removed with its owner.
class TemporaryFolder {
 public:
  explicit TemporaryFolder(const std::filesystem::path& parent);
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace filo
