// experiments/NAME/runs/HOST-PID.json: that a `filo run` looks after an experiment just now. For who only looks (`filo
// status`, the page): no pass acts on it, so that nobody takes a run's stages over or goes on with it when it has
// ended.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "workspace/claim.hpp"
#include "workspace/workspace.hpp"

namespace filo {

// The file while this lives: process_claim()'s members and "since"; touched every few seconds.
class RunFile {
 public:
  // Removes what runs left that were killed. Throws Error when the file cannot be written.
  RunFile(const Workspace& workspace, const std::string& experiment);
  ~RunFile();
  RunFile(const RunFile&) = delete;
  RunFile& operator=(const RunFile&) = delete;

 private:
  std::filesystem::path path_;
  Heartbeat heartbeat_;
};

struct LivingRun {
  std::string host;
  long pid = 0;
  double since = 0;  // seconds since 1970, by its host's clock
};

// The runs that live, on whatever host: where claim_holds(). The longest first.
std::vector<LivingRun> living_runs(const Workspace& workspace, const std::string& experiment);

}  // namespace filo
