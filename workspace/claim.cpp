#include "workspace/claim.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

#include "base/host.hpp"

namespace filo {
namespace {

constexpr double foreign_claim_lifetime_s = 60;

// Ticks since boot at which a process started, "" when there is none (or only its corpse). A pid alone may be reused.
std::string process_start(long pid) {
  const std::string stat = kernel_line("/proc/" + std::to_string(pid) + "/stat");
  const auto name_end = stat.rfind(')');  // the name in parentheses may hold anything
  if (name_end == std::string::npos) return "";
  std::istringstream fields(stat.substr(name_end + 1));
  std::string field;
  fields >> field;  // state
  if (field == "Z" || field == "X") return "";
  for (int i = 0; i < 19; ++i) fields >> field;  // field 22 of proc(5)
  return field;
}

}  // namespace

Json process_claim() {
  return {{"executor", "local"},
          {"host", host_name()},
          {"boot", boot_id()},
          {"pid", getpid()},
          {"process_started", process_start(getpid())}};
}

bool claim_holds(const Json& claim, const std::function<double()>& age_s) {
  const std::string executor = text_of(claim, "executor");
  if (!executor.empty() && executor != "local") return true;
  if (text_of(claim, "host") != host_name()) return age_s() < foreign_claim_lifetime_s;
  if (text_of(claim, "boot") != boot_id() || !claim.contains("pid") || !claim["pid"].is_number_integer()) return false;
  const std::string started = text_of(claim, "process_started");
  return !started.empty() && process_start(claim["pid"].get<long>()) == started;
}

void Heartbeat::add(const std::filesystem::path& claim_file) {
  const std::lock_guard lock(mutex_);
  files_.insert(claim_file);
  if (!thread_.joinable()) thread_ = std::jthread([this](const std::stop_token& stop) { run(stop); });
}

void Heartbeat::remove(const std::filesystem::path& claim_file) {
  const std::lock_guard lock(mutex_);
  files_.erase(claim_file);
}

void Heartbeat::run(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  while (!stopped_.wait_for(lock, stop, every_, [&] { return stop.stop_requested(); })) {
    const std::vector<std::filesystem::path> files(files_.begin(), files_.end());
    lock.unlock();  // a file server may take its time
    for (const auto& file : files) utimensat(AT_FDCWD, file.c_str(), nullptr, 0);
    lock.lock();
  }
}

}  // namespace filo
