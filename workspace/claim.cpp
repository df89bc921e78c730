#include "workspace/claim.hpp"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "base/host.hpp"

namespace filo {
namespace {

constexpr double foreign_claim_lifetime_s = 60;

std::string first_line(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

std::string boot() { return first_line("/proc/sys/kernel/random/boot_id"); }

// Ticks since boot at which a process started, "" when there is none (or only its corpse). A pid alone may be reused.
std::string process_start(long pid) {
  const std::string stat = first_line("/proc/" + std::to_string(pid) + "/stat");
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
          {"boot", boot()},
          {"pid", getpid()},
          {"process_started", process_start(getpid())}};
}

bool claim_holds(const Json& claim, double age_s) {
  const std::string executor = text_of(claim, "executor");
  if (!executor.empty() && executor != "local") return true;
  if (text_of(claim, "host") != host_name()) return age_s < foreign_claim_lifetime_s;
  if (text_of(claim, "boot") != boot() || !claim.contains("pid") || !claim["pid"].is_number_integer()) return false;
  const std::string started = text_of(claim, "process_started");
  return !started.empty() && process_start(claim["pid"].get<long>()) == started;
}

}  // namespace filo
