#include "scheduler/report/logs.hpp"

#include <chrono>
#include <fstream>
#include <ostream>
#include <thread>

#include "base/error.hpp"
#include "workspace/claim.hpp"
#include "workspace/stage_record.hpp"

namespace filo {
namespace {

constexpr auto between_polls = std::chrono::milliseconds(200);

bool has_ended(const Workspace& workspace, const std::string& key, int attempt) {
  if (workspace.outcome(key, attempt) || workspace.newest_attempt(key) > attempt) return true;
  const auto claim = workspace.claim(key, attempt);
  return !claim || !claim_holds(*claim, [&] { return workspace.claim_age_s(key, attempt); });
}

// Copies what `log` has from where it stands.
void copy_rest(std::ifstream& log, std::ostream& out) {
  char buffer[1 << 16];
  while (log.read(buffer, sizeof buffer) || log.gcount() > 0) out.write(buffer, log.gcount());
  log.clear();
  out.flush();
}

void print_attempt(const Workspace& workspace, const std::string& key, int attempt, bool follow, std::ostream& out,
                   const std::function<bool()>& stop) {
  const auto path = workspace.log_file(key, attempt);
  std::ifstream log(path, std::ios::binary);
  for (;;) {
    const bool last = !follow || stop() || has_ended(workspace, key, attempt);
    if (!log.is_open()) log.open(path, std::ios::binary);
    if (log.is_open()) copy_rest(log, out);
    if (last) return;
    std::this_thread::sleep_for(between_polls);
  }
}

// Waits for the attempt after this one, as long as one is to be expected.
bool is_followed(const Workspace& workspace, const std::string& key, int attempt, const std::function<bool()>& stop,
                 double patience_s) {
  const StageKind kind = workspace.kind(key);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::duration<double>(patience_s);
  for (;;) {
    const StageRecord record = read_stage_record(workspace, key, kind);
    if (record.attempt > attempt) return true;
    if (record.done || record.request || record.cancelled || !given_up(record, {}).empty()) return false;
    if (stop() || std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(between_polls);
  }
}

}  // namespace

std::string find_stage(const Workspace& workspace, const std::string& digits) {
  std::vector<std::string> found;
  for (const auto& key : workspace.stage_keys())
    if (key.starts_with(digits)) found.push_back(key);
  if (found.size() == 1) return found[0];
  if (found.empty())
    throw UsageError("scheduler: stage " + digits, "found none in " + workspace.root().string() +
                                                       ", expected the first digits of a key (filo status shows them)");
  throw UsageError("scheduler: stage " + digits, "found " + std::to_string(found.size()) + " stages (" + found[0] +
                                                     ", " + found[1] + (found.size() > 2 ? ", ..." : "") +
                                                     "), expected enough digits for one");
}

void print_log(const Workspace& workspace, const std::string& key, int attempt, bool follow, std::ostream& out,
               const std::function<bool()>& stop, double patience_s) {
  const int newest = workspace.newest_attempt(key);
  const bool over_attempts = follow && attempt == 0;
  if (attempt == 0) attempt = newest;
  if (attempt < 1 || attempt > newest)
    throw UsageError("scheduler: stage " + key, "found " + std::to_string(newest) + " attempts, expected attempt " +
                                                    std::to_string(std::max(attempt, 1)) + " to be there");
  for (;;) {
    print_attempt(workspace, key, attempt, follow, out, stop);
    if (!over_attempts || !is_followed(workspace, key, attempt, stop, patience_s)) return;
    out << "--- attempt " << ++attempt << " ---\n";
  }
}

}  // namespace filo
