#include "scheduler/tracking/tracker.hpp"

#include <algorithm>
#include <iostream>
#include <memory>

#include "app/filo/commands.hpp"
#include "app/filo/workspace_option.hpp"
#include "base/error.hpp"
#include "base/signals.hpp"
#include "scheduler/control/run_states.hpp"
#include "scheduler/plan/plan_file.hpp"

namespace filo {
namespace {

struct Options {
  std::string experiment;
  bool tensorboard = false;
  std::string mlflow_uri, mlflow_experiment;
};

// What the command line names; else what the experiment does.
TrackingSettings chosen(const Options& options, const Plan& plan) {
  TrackingSettings settings = planned_tracking(plan.experiment);
  const bool names_one = options.tensorboard || !options.mlflow_uri.empty();
  if (names_one)
    settings = {.tensorboard = options.tensorboard,
                .mlflow_uri = options.mlflow_uri,
                .mlflow_experiment = settings.mlflow_experiment};
  if (!options.mlflow_experiment.empty()) settings.mlflow_experiment = options.mlflow_experiment;
  if (!settings.any())
    throw UsageError("track: " + plan.name,
                     "says of no tracking, expected `tracking:` in the experiment's file, "
                     "--tensorboard or --mlflow URI");
  return settings;
}

int track(const Options& options, const std::string& workspace_path) {
  install_stop_handlers();
  const Workspace workspace(workspace_path, Workspace::Access::change);
  const auto plan = std::make_shared<const Plan>(load_plan(workspace, options.experiment));
  const auto states = run_states(*plan, observe(workspace, *plan));
  bool all_told = true;
  for (auto& sink : make_sinks(workspace, plan, chosen(options, *plan))) {
    Tracker tracker(workspace, plan, std::move(sink));
    const auto look = tracker.look(
        states, [] { return stop_requested() != 0; }, true);
    if (look.held) {
      std::cout << tracker.sink().place() << ": told live by another process: " << look.trouble << "\n";
      continue;
    }
    std::cout << tracker.sink().place() << ": " << look.points << " new points, " << tracker.runs_told()
              << " runs in all\n";
    if (!look.trouble.empty()) std::cerr << "filo: " << look.trouble << "\n";
    all_told = all_told && look.caught_up;
  }
  if (stop_requested() != 0) return static_cast<int>(ExitCode::stopped_early);
  return all_told ? 0 : static_cast<int>(ExitCode::failed);
}

CLI::Validator mlflow_uri() {
  return {[](std::string& uri) {
            return is_mlflow_uri(uri) ? std::string() : std::string("expected ") + expected_mlflow_uri;
          },
          "URI", ""};
}

}  // namespace

void add_track_command(CLI::App& program) {
  add_command(
      program, "track", "Tells TensorBoard or MLflow what an experiment's trials have told so far",
      [](CLI::App& command) -> Command {
        auto options = std::make_shared<Options>();
        auto workspace = workspace_option(command);
        command.add_option("EXPERIMENT", options->experiment, "Name of an experiment that ran, or runs")->required();
        command.add_flag("--tensorboard", options->tensorboard,
                         "Write event files to WORKSPACE/experiments/EXPERIMENT/tensorboard");
        command
            .add_option("--mlflow", options->mlflow_uri,
                        "URI of an MLflow server; its token is taken from MLFLOW_TRACKING_TOKEN")
            ->check(mlflow_uri());
        command.add_option("--mlflow-experiment", options->mlflow_experiment,
                           "Experiment there (default: as the file says, else EXPERIMENT)");
        return [options, workspace] { return track(*options, *workspace); };
      });
}

}  // namespace filo
