// A workspace on disk: stages, their attempts, and what people ask of them. Both programs read and write it through
// this; every call is one look at, or one change of, files (workspace/layout.hpp), and nothing is kept in memory: the
// truth is on disk. Files are written whole or not at all (base/files.hpp). Calls from several threads and processes
// are safe where not said otherwise.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/files.hpp"
#include "base/json.hpp"
#include "workspace/file_clock.hpp"
#include "workspace/layout.hpp"
#include "workspace/result.hpp"
#include "workspace/stage_key.hpp"

namespace filo {

// How an attempt ended, as the scheduler saw it: attempts/N/end.json.
struct AttemptOutcome {
  std::string outcome;  // "done", "failed", "stopped" (exit 75), "lost" (nobody runs it any more), "cancelled"
  std::string cause;    // to_string(EndCause), or "hung"; "" in files of before there was one
  std::string reason;   // one line
  std::string node{};   // of the rank that a job hung by; "": not known
};

// What people or a search ask of a stage: stages/KEY/request.json. Without one it should run. Only reconcile() acts on
// it.
struct StageRequest {
  std::string action;  // "cancel": kill it now, state cancelled; "stop": snapshot and exit, state stopped
  std::string reason;  // one line
  double time = 0;     // seconds since 1970; set by Workspace
};

// experiments/NAME/active.json: the experiments that `filo reconcile` and `filo serve` look after.
struct ActiveExperiment {
  std::string name;
  std::string executor;    // "local" or "slurm"
  std::string cluster;     // path of the cluster's settings; "" with "local"
  double since = 0;        // seconds since 1970; set by Workspace
  bool cancelled = false;  // nothing of it is started any more; it is no longer active once nothing of it runs
};

class Workspace : public WorkspaceLayout {
 public:
  // write: the folder is made where it is not there; change: it is there already; read: so it is, and nothing is
  // written.
  enum class Access { write, change, read };
  // Throws UsageError, with what would make a workspace, when the folder is not there, cannot be made, written or read,
  // or when its path is not UTF-8 (its JSON files hold it).
  explicit Workspace(std::filesystem::path root, Access access = Access::write);

  // Makes stages/KEY/ with its spec.json. There already: spec.json is renewed when only paths in it changed and the
  // stage is not done.
  void create_stage(const std::string& key, const Json& spec) const;
  std::vector<std::string> stage_keys() const;
  StageKind kind(const std::string& key) const;  // as its spec.json says; throws Error where it cannot be read

  // The newest attempt's number, 0 when there is none.
  int newest_attempt(const std::string& key) const;
  // Makes the folder of attempt `newest` + 1 (mkdir is the test-and-set). False: it is there, and what the caller has
  // read of the stage is out of date.
  bool make_attempt_after(const std::string& key, int newest) const;
  // Makes the next attempt's folder, whatever its number; two callers get two.
  int make_attempt(const std::string& key) const;
  // Counts the starts of an attempt's worker, from 1, in the same way.
  int make_start(const std::string& key, int attempt) const;

  // Throws Error where a newer attempt has taken this one's place, or a newer start (make_start()) of this attempt: a
  // requeued job whose first copy lives on beyond a lost node. Nothing of the stage may be changed then.
  void expect_current(const std::string& key, int attempt, int start) const;
  // Moves the artifacts from the start's folder to the stage's, then writes result.json, if the start is current; and
  // removes what other starts left.
  void commit(const StageResult& result, int start) const;
  // Set when result.json is there, names this stage and kind, and is of an attempt that was made. It may be an older
  // one than the newest: where files appear late, an attempt is given up whose result is there all the same.
  std::optional<StageResult> result(const std::string& key, StageKind kind) const;

  // The stage is to be done again, because something is wrong with what it made: its result and its attempts so far no
  // longer count. Nothing happens where it has no result.
  void withdraw_result(const std::string& key) const;

  // claim.json: who runs the attempt (workspace/claim.hpp).
  void write_claim(const std::string& key, int attempt, const Json& claim) const;
  std::optional<Json> claim(const std::string& key, int attempt) const;  // unset: none, or unreadable
  double claim_age_s(const std::string& key, int attempt) const { return age_s(claim_file(key, attempt)); }

  // By the clock that stamps the workspace's files (file_clock.hpp): seconds since 1970, and since a file was written
  // or touched.
  double file_time_s() const { return clock_->now_s(); }
  double age_s(const std::filesystem::path& file) const { return clock_->age_s(file); }

  // How long an attempt that ended well has been waited for, by the clock of the workspace's files: 0 the first time.
  double awaited_s(const std::string& key, int attempt) const;

  void write_outcome(const std::string& key, int attempt, const AttemptOutcome& outcome) const;
  std::optional<AttemptOutcome> outcome(const std::string& key, int attempt) const;

  // The last `lines` lines of an attempt's log, at most 16 KiB; "" when there is none.
  std::string log_tail(const std::string& key, int attempt, int lines) const;

  void write_request(const std::string& key, const StageRequest& request) const;
  std::optional<StageRequest> request(const std::string& key) const;
  void remove_request(const std::string& key) const;

  // stages/KEY/retry.json: attempts up to this number no longer count against any limit. 0: all count.
  int retry_after(const std::string& key) const;
  // Has the stage tried again: no request any more, and its attempts so far no longer count.
  void retry(const std::string& key) const;

  void write_active(const ActiveExperiment& experiment) const;
  std::optional<ActiveExperiment> active(const std::string& name) const;
  void remove_active(const std::string& name) const;
  std::vector<ActiveExperiment> active_experiments() const;  // the longest active first

  // Held while one process changes what is planned or claimed (workspace/held_lock.hpp). No command of a cluster is
  // waited for meanwhile.
  FileDescriptor lock() const;

 private:
  std::shared_ptr<FileClock> clock_;
};

}  // namespace filo
