// What finished stages used of what they asked for, and what to ask for next time.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "scheduler/plan/plan.hpp"
#include "scheduler/report/report.hpp"
#include "scheduler/report/tables.hpp"
#include "settings/resources.hpp"
#include "workspace/workspace.hpp"

namespace filo {

// Of one stage's attempt that finished; unset: nobody told.
struct StageUse {
  std::string key;
  StageKind kind = StageKind::features;
  ResourceSettings asked;
  double seconds = 0;
  std::optional<double> cpu_s;             // of all ranks
  std::optional<double> memory_bytes;      // of all ranks, the peak
  std::optional<double> gpu_memory_bytes;  // of the rank that took most
  std::optional<double> gpu_use;           // share of the time, 0 to 1
  std::optional<double> energy_j;
};

// The plan's stages that are done, by the `used` event of the attempt's worker.
std::vector<StageUse> stage_uses(const Workspace& workspace, const Plan& plan);

// Adds what Slurm's accounting data base knows of those that ran on Slurm (one sacct for a thousand of them): energy,
// and what is larger than the worker's own figures. Nothing where there is no sacct.
void add_accounted_use(const Workspace& workspace, const Plan& plan, std::vector<StageUse>& uses);

// What stages with such uses should ask for: a quarter more memory than the most that one of them took, twice the
// longest time; the rest as asked.
ResourceSettings proposed_resources(const ResourceSettings& asked, double most_memory_bytes, double most_seconds);

// A row for each kind of stage and what it asked for.
TextTable resource_table(const std::vector<StageUse>& uses);

// `filo report --resources`, in any of the formats (html: the table alone); json has every stage.
std::string resource_report(const Workspace& workspace, const Plan& plan, ReportFormat format);

// Changes what the plan's stages ask for to what finished stages of the workspace suggest: those of the same kind, data
// set, weights, model and shape, whatever their seed and number of epochs. Returns a line for each change: "evaluate:
// 1536M instead of 4G, 00:10:00 instead of 01:00:00 (12 stages)".
std::vector<std::string> learn_resources(const Workspace& workspace, Plan& plan);

}  // namespace filo
