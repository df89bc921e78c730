// Asynchronous successive halving over the trainings of a search (ASHA, stopping variant): at each rung a training goes
// on when it is among the best 1/reduction of those that have reached it so far.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "scheduler/plan/plan.hpp"
#include "workspace/workspace.hpp"

namespace filo {

// A metric that a training told, after `resource` epochs (or steps).
struct MetricReport {
  std::string stage;
  std::int64_t resource = 0;
  double time = 0;              // seconds since 1970
  std::optional<double> value;  // unset: not a number, worse than any
};

// The rungs: min, min * reduction, min * reduction^2, ... below max (no end where max is 0).
std::vector<std::int64_t> rungs(const SearchSettings& search, std::int64_t up_to);

struct RungStop {
  std::string stage;
  std::int64_t rung = 0;
  std::optional<double> value;
  std::size_t rank = 0;  // of `reported`, 1 the best
  std::size_t reported = 0;
};

// Which of trainings that compete are to stop, each at its first lost rung. Reports count in order of time (then of
// stage); the first report of a training at a rung counts, and those of one that was stopped at a lower rung do not.
// The n-th report at a rung goes on when n < reduction or its rank among the n is at most n / reduction; of equal
// values the earlier is better. A pure function, so that a resumed search decides as before.
std::vector<RungStop> asha_stops(const SearchSettings& search, std::vector<MetricReport> reports);

struct StopDecision {
  std::string stage;   // key
  std::string reason;  // "loss 0.52 after 3 epochs is 7th of 9"
};

// The trainings of `plan` that its searches stop now: neither done nor asked to stop or cancelled already. Reads
// events.jsonl, changes nothing.
std::vector<StopDecision> search_decisions(const Workspace& workspace, const Plan& plan);

// One training's reports of a search's metric, by resource: of what was told twice, the first (workspace/events.hpp).
std::vector<MetricReport> metric_reports(const Workspace& workspace, const SearchSettings& search,
                                         const std::string& train);

// How a draw of a search stands.
struct SearchOutcome {
  const PlannedTrial* trial = nullptr;
  std::string state;             // "done", "stopped", "cancelled", "started" or "waiting"
  std::int64_t resource = 0;     // epochs or steps of the last report, 0: none
  std::optional<double> last{};  // its value
  std::string reason{};          // why it was stopped
};

// The trials of one experiment's search, best first: by the last value among those furthest along.
std::vector<SearchOutcome> search_outcomes(const Workspace& workspace, const Plan& plan, const std::string& experiment);

}  // namespace filo
