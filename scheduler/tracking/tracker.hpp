// Tells the runs of one experiment to one sink, and remembers in the workspace what was told
// (experiments/NAME/tracking/SINK.json), so that no restart tells anything twice.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/files.hpp"
#include "scheduler/tracking/sink.hpp"

namespace filo {

struct TrackerOptions {
  double first_pause_s = 5;  // after a failure; doubled while failures last
  double longest_pause_s = 300;
  std::size_t batch_points = 1000;
};

// One process at a time tells one sink: the others find its lock held, and leave it to it. Not thread-safe.
class Tracker {
 public:
  // The workspace must outlive it.
  Tracker(const Workspace& workspace, std::shared_ptr<const Plan> plan, std::unique_ptr<RunSink> sink,
          TrackerOptions options = {});
  ~Tracker();

  struct Look {
    bool caught_up = false;  // all is told that the files and states say so far
    std::string trouble;     // why not, in one line
    double again_s = 0;      // with trouble: when to try again
    bool held = false;       // by another process, which `trouble` names
    std::size_t points = 0;  // told by this look
  };
  // Tells what is new. `states`: one for each of the plan's trials. Throws nothing: what goes wrong is trouble. A sink
  // that was away is left alone until its pause is over, also one that another process found away, unless `at_once`.
  // `stop` is asked between batches.
  Look look(const std::vector<RunState>& states, const std::function<bool()>& stop, bool at_once = false);

  const RunSink& sink() const { return *sink_; }
  std::size_t runs_told() const;

 private:
  struct Run;

  bool open(Look& look);
  void load();
  void save();
  void look_at_runs(const std::vector<RunState>& states, const std::function<bool()>& stop, Look& look);
  bool tell(Run& run, const RunState& state, const std::function<bool()>& stop, Look& look);
  bool tell_status(Run& run, const RunState& state);
  void note_trouble(const std::string& trouble);

  const Workspace& workspace_;
  std::shared_ptr<const Plan> plan_;
  std::unique_ptr<RunSink> sink_;
  TrackerOptions options_;
  std::filesystem::path file_;
  FileDescriptor lock_;
  std::vector<Run> runs_;
  std::map<std::string, Json> former_;  // runs that the plan has no more, as they stand in the file
  Json shared_memory_;
  std::string trouble_;  // that was told on the log
  int failures_ = 0;
  double not_before_ = 0;  // seconds since 1970
  bool dirty_ = false;
  double saved_ = 0;
};

}  // namespace filo
