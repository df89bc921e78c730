#include "scheduler/report/logs.hpp"

#include <iostream>
#include <memory>

#include "app/filo/commands.hpp"
#include "app/filo/workspace_option.hpp"
#include "base/signals.hpp"

namespace filo {
namespace {

struct Options {
  std::string stage;
  int attempt = 0;
  bool follow = false;
};

int logs(const Options& options, const std::string& workspace_path) {
  install_stop_handlers();
  const Workspace workspace(workspace_path, Workspace::Access::read);
  const std::string key = find_stage(workspace, options.stage);
  print_log(workspace, key, options.attempt, options.follow, std::cout, [] { return stop_requested() != 0; });
  return 0;
}

}  // namespace

void add_logs_command(CLI::App& program) {
  add_command(program, "logs", "Prints the log of a stage", [](CLI::App& command) -> Command {
    auto options = std::make_shared<Options>();
    auto workspace = workspace_option(command);
    command.add_option("STAGE", options->stage, "Key of the stage, or its first digits (filo status)")->required();
    command.add_option("--attempt", options->attempt, "Number of the attempt (default: the newest)")
        ->check(whole_number(1));
    command.add_flag("--follow,-f", options->follow,
                     "Go on printing until the stage ends, over attempts that follow this one");
    return [options, workspace] { return logs(*options, *workspace); };
  });
}

}  // namespace filo
