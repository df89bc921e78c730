#include <iostream>
#include <memory>

#include "app/filo/commands.hpp"
#include "app/filo/workspace_option.hpp"
#include "scheduler/control/coordinator.hpp"
#include "scheduler/control/requests.hpp"
#include "scheduler/report/logs.hpp"
#include "workspace/run_file.hpp"

namespace filo {
namespace {

struct Options {
  std::string name;
  std::string reason = "cancelled by filo cancel";
  bool json = false;
};

void print(const Options& options, const char* what, const std::vector<std::string>& stages, const std::string& more) {
  if (options.json) {
    std::cout << Json({{what, stages}}).dump(2) << "\n";
    return;
  }
  for (const auto& stage : stages) std::cout << stage << "\n";
  std::cout << what << ": " << stages.size() << (stages.size() == 1 ? " stage" : " stages") << more << "\n";
}

int cancel(const Options& options, const std::string& workspace_path) {
  const Workspace workspace(workspace_path, Workspace::Access::change);
  if (names_experiment(workspace, options.name)) {
    const auto cancelled = cancel_experiment(workspace, options.name, options.reason);
    print(options, "cancelled", cancelled.value_or(std::vector<std::string>{}),
          cancelled ? "; what runs is ended by the next pass (filo run, filo serve or filo reconcile)"
                    : ": " + options.name + " is done already");
    return 0;
  }
  const std::string key = find_stage(workspace, options.name);
  const bool asked = cancel_stage(workspace, key, options.reason);
  print(options, "cancelled", asked ? std::vector{key} : std::vector<std::string>{},
        asked ? "; if it runs, the next pass ends it" : ": " + key + " is done already");
  return 0;
}

int retry(const Options& options, const std::string& workspace_path) {
  const Workspace workspace(workspace_path, Workspace::Access::change);
  std::vector<std::string> retried;
  std::string more = "; the next pass starts what is ready";
  if (names_experiment(workspace, options.name)) {
    retried = retry_experiment(workspace, options.name);
    if (!workspace.active(options.name) && living_runs(workspace, options.name).empty())
      more = "; it is not active: filo run FILE or filo submit FILE goes on with it";
  } else {
    retried = {find_stage(workspace, options.name)};
    workspace.retry(retried[0]);
  }
  print(options, "retried", retried, more);
  return 0;
}

}  // namespace

void add_cancel_command(CLI::App& program) {
  add_command(program, "cancel", "Ends an experiment or a stage; what is done stays", [](CLI::App& command) -> Command {
    auto options = std::make_shared<Options>();
    auto workspace = workspace_option(command);
    command.add_option("NAME", options->name, "Experiment, or the first digits of a stage's key")->required();
    command.add_option("--reason", options->reason, "Shown by filo status")->capture_default_str();
    command.add_flag("--json", options->json, "Print JSON");
    return [options, workspace] { return cancel(*options, *workspace); };
  });
}

void add_retry_command(CLI::App& program) {
  add_command(
      program, "retry", "Has failed, stopped and cancelled stages tried again", [](CLI::App& command) -> Command {
        auto options = std::make_shared<Options>();
        auto workspace = workspace_option(command);
        command.add_option("NAME", options->name, "Experiment, or the first digits of a stage's key")->required();
        command.add_flag("--json", options->json, "Print JSON");
        return [options, workspace] { return retry(*options, *workspace); };
      });
}

}  // namespace filo
