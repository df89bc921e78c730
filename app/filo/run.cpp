#include "scheduler/control/run.hpp"

#include <unistd.h>

#include <algorithm>
#include <iostream>
#include <memory>

#include "app/filo/commands.hpp"
#include "app/filo/experiment_option.hpp"
#include "app/filo/workspace_option.hpp"
#include "base/error.hpp"
#include "base/signals.hpp"
#include "scheduler/executors/local_executor.hpp"
#include "scheduler/plan/plan_file.hpp"
#include "scheduler/report/report.hpp"
#include "workspace/artifacts.hpp"

namespace filo {
namespace {

struct Options {
  bool json = false;
  double grace_s = 120;
};

int run(const ExperimentOption& file, const Options& options, const std::string& workspace_path) {
  install_stop_handlers();
  const Experiment experiment = file.read();
  const Workspace workspace(workspace_path, Workspace::Access::change);
  const Plan plan = file.plan(experiment, workspace);
  LocalExecutor executor(workspace, find_worker());

  std::ostream& out = options.json ? std::cerr : std::cout;  // with --json, stdout is the result alone
  out << "settings\n"
      << to_yaml(experiment) << "\n"
      << plan.name << ": " << plan.trials.size() << " trials, " << plan.stages.size() << " stages, workspace "
      << workspace.root().string() << "\n"
      << std::flush;
  save_plan(plan, workspace);

  std::vector<StageStatus> statuses;
  {
    RunProgress progress(workspace, plan, out, isatty(options.json ? STDERR_FILENO : STDOUT_FILENO) != 0);
    statuses = run_plan(workspace, plan, executor, progress,
                        {.stop = [] { return stop_requested() != 0; }, .grace_s = options.grace_s});
  }
  if (!is_settled(statuses)) {
    std::cerr << "filo: stopped; the same command goes on from here\n";
    return static_cast<int>(ExitCode::stopped_early);
  }
  const auto report = write_report(workspace, plan);
  out << "\n" << report_text(workspace, plan, ReportFormat::terminal) << "\n";
  if (options.json) std::cout << report_json(workspace, plan).dump(2) << "\n";
  out << "report   " << (report / "report.html").string() << "\n"
      << "results  " << (report / "results.json").string() << ", results.csv, results.md, results.tex\n";
  for (const auto& stage : plan.stages)
    if (stage.kind == StageKind::train)
      if (const auto checkpoint = kept_checkpoint(workspace, stage.key))
        out << "checkpoint " << stage.label << "  " << checkpoint->string() << "\n";
  out << std::flush;
  // What a search stopped, and what needs it, is not missing.
  if (std::none_of(statuses.begin(), statuses.end(), [](const StageStatus& status) {
        return status.state == StageState::failed || status.state == StageState::cancelled;
      }))
    return 0;
  std::size_t unfinished = 0;
  std::string first;
  for (std::size_t i = 0; i < statuses.size(); ++i) {
    const StageStatus& status = statuses[i];
    if (status.state != StageState::failed && status.state != StageState::cancelled) continue;
    if (++unfinished == 1)
      first = plan.stages[i].label + " (" + status.key + "): " + to_string(status.state) + ": " + status.reason;
  }
  std::cerr << "filo: " << unfinished << " of " << statuses.size() << " stages failed or were cancelled, first "
            << first << " (filo logs STAGE shows more)\n";
  return static_cast<int>(ExitCode::failed);
}

}  // namespace

void add_run_command(CLI::App& program) {
  add_command(program, "run", "Runs an experiment on this machine, in the foreground, and prints its tables",
              [](CLI::App& command) -> Command {
                auto options = std::make_shared<Options>();
                auto experiment = planned_experiment_option(command);
                auto workspace = workspace_option(command);
                command.add_flag("--json", options->json, "Print the results as JSON on stdout, all else on stderr");
                add_number(command, "--grace", options->grace_s, "Seconds that stages get for a snapshot when stopped",
                           0.0);
                return [experiment, options, workspace] { return run(*experiment, *options, *workspace); };
              });
}

}  // namespace filo
