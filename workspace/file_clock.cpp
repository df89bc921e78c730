#include "workspace/file_clock.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include "base/files.hpp"
#include "base/host.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;
constexpr auto between_questions = std::chrono::seconds(30);

std::optional<double> time_of_change(int file) {
  struct stat status {};
  if (fstat(file, &status) != 0) return std::nullopt;
  return static_cast<double>(status.st_mtim.tv_sec) + static_cast<double>(status.st_mtim.tv_nsec) * 1e-9;
}

}  // namespace

std::optional<double> time_of_touch(const fs::path& path) {
  std::error_code ignored;
  fs::create_directories(path.parent_path(), ignored);
  const FileDescriptor file(open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
  if (!file.valid() || futimens(file.get(), nullptr) != 0) return std::nullopt;
  return time_of_change(file.get());
}

double FileClock::now_s() {
  const std::lock_guard lock(mutex_);
  const auto steady = Steady::now();
  const double steady_s = std::chrono::duration<double>(steady.time_since_epoch()).count();
  if (!asked_ || steady - *asked_ > between_questions) {
    ahead_s_ = time_of_touch(file_).value_or(wall_time_s()) - steady_s;
    asked_ = steady;
  }
  return steady_s + ahead_s_;
}

double FileClock::age_s(const fs::path& path) {
  const FileDescriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  const auto changed = file.valid() ? time_of_change(file.get()) : std::nullopt;
  return changed ? now_s() - *changed : 1e9;
}

}  // namespace filo
