// The workspace's files (DESIGN section 5) as the control plane sees them. The truth is on disk: nothing here keeps
// state.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/files.hpp"
#include "base/json.hpp"

namespace filo {

enum class StageKind { features, boxes, train, evaluate, exported };  // exported: "export", which C++ keeps for itself
std::string to_string(StageKind kind);
StageKind stage_kind(const std::string& name);  // throws Error on an unknown one

// First 16 hex digits of SHA-256 over canonical_json(key_view(spec)).
std::string stage_key(const Json& spec);

// The spec without what only says where things are or how often they are saved: clip.path, model.clip,
// model.prompts.descriptions (the content stands in `descriptions`), boxes.path, the data sets' names (their digests
// count) and train.snapshot_every_steps.
Json key_view(Json spec);

// A key as the number that its digits write: quick to compare and to hash.
std::uint64_t key_number(const std::string& key);

// What result.json says, when it can be believed.
struct StageResult {
  int attempt = 0;
  double seconds = 0;
  Json metrics;
  Json artifacts;  // name -> path relative to the stage's folder, checked to stay inside
};

// How an attempt ended, as the scheduler saw it: attempts/N/end.json.
struct AttemptEnd {
  std::string outcome;  // "done", "failed", "stopped" (exit 75), "lost" (nobody runs it any more), "cancelled"
  std::string cause;    // to_string(EndCause); "" in files of before there was one
  std::string reason;   // one line
};

// What people or a search want of a stage other than that it runs: stages/KEY/request.json. Only reconcile() acts on
// it.
struct StageRequest {
  std::string want;    // "cancel": kill it now, state cancelled; "stop": snapshot and exit, state stopped
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

class Workspace {
 public:
  // write: the folder is made where it is not there; change: it is there already; read: so it is, and nothing is
  // written.
  enum class Access { write, change, read };
  // Throws UsageError, with what would make a workspace, when the folder is not there, cannot be made, written or read,
  // or when its path is not UTF-8 (its JSON files hold it).
  explicit Workspace(std::filesystem::path root, Access access = Access::write);

  const std::filesystem::path& root() const { return root_; }
  std::filesystem::path dataset_file(const std::string& name) const { return root_ / "datasets" / (name + ".json"); }
  std::filesystem::path stage_folder(const std::string& key) const { return root_ / "stages" / key; }
  std::filesystem::path spec_file(const std::string& key) const { return stage_folder(key) / "spec.json"; }
  std::filesystem::path result_file(const std::string& key) const { return stage_folder(key) / "result.json"; }
  std::filesystem::path attempt_folder(const std::string& key, int attempt) const {
    return stage_folder(key) / "attempts" / std::to_string(attempt);
  }
  std::filesystem::path log_file(const std::string& key, int attempt) const {
    return attempt_folder(key, attempt) / "log.txt";
  }
  std::filesystem::path events_file(const std::string& key, int attempt) const {
    return attempt_folder(key, attempt) / "events.jsonl";
  }
  std::filesystem::path experiment_folder(const std::string& name) const { return root_ / "experiments" / name; }
  std::filesystem::path artifact_folder(const std::string& digest) const { return root_ / "artifacts" / digest; }
  std::filesystem::path server_file() const { return root_ / "server.json"; }  // of a running `filo serve`
  std::filesystem::path cache_folder() const { return root_ / "cache"; }

  // Makes stages/KEY/ with its spec.json. There already: spec.json is renewed when only paths in it changed and the
  // stage is not done.
  void create_stage(const std::string& key, const Json& spec) const;
  std::vector<std::string> stage_keys() const;

  // The newest attempt's number, 0 when there is none.
  int newest_attempt(const std::string& key) const;
  // Makes the next attempt's folder (mkdir is the test-and-set, so two callers get two numbers).
  int make_attempt(const std::string& key) const;

  // Set when result.json is there, names this stage and kind, and is of the newest attempt: a stale worker's is not
  // believed.
  std::optional<StageResult> result(const std::string& key, StageKind kind) const;

  void write_claim(const std::string& key, int attempt, const Json& claim) const;
  std::optional<Json> claim(const std::string& key, int attempt) const;  // unset: none, or unreadable
  void touch_claim(const std::string& key, int attempt) const;           // the holder lives
  double claim_age_s(const std::string& key, int attempt) const;         // since it was written or touched

  void write_end(const std::string& key, int attempt, const AttemptEnd& end) const;
  std::optional<AttemptEnd> end(const std::string& key, int attempt) const;

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

  // The last `lines` lines of an attempt's log, at most 16 KiB; "" when there is none.
  std::string log_tail(const std::string& key, int attempt, int lines) const;

  // Held while one process changes what is planned or claimed. Blocks until it is free; released when the descriptor
  // closes.
  FileDescriptor lock() const;

 private:
  std::filesystem::path root_;
};

// Follows one events.jsonl while it grows. A line counts once its newline is there; a line that is not JSON is left
// out.
class EventReader {
 public:
  explicit EventReader(std::filesystem::path path) : path_(std::move(path)) {}
  std::vector<Json> poll();  // what is new; none when the file is not there yet

 private:
  std::filesystem::path path_;
  std::uint64_t offset_ = 0;
};

}  // namespace filo
