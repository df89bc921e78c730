#include "scheduler/report/status.hpp"

#include <unistd.h>

#include <chrono>
#include <iostream>
#include <memory>
#include <sstream>
#include <thread>

#include "app/filo/commands.hpp"
#include "app/filo/workspace_option.hpp"
#include "base/error.hpp"
#include "base/signals.hpp"
#include "scheduler/control/coordinator.hpp"
#include "scheduler/plan/plan_file.hpp"

namespace filo {
namespace {

constexpr std::size_t screenful = 20;  // stages
constexpr auto between_looks = std::chrono::seconds(2);

struct Options {
  std::string experiment;
  bool json = false;
  bool all = false;
  bool watch = false;
};

struct Told {
  bool settled = true;     // nothing is left to wait for
  std::string problems{};  // lines: experiments that cannot be shown, and why
};

Told tell(Coordinator& coordinator, QueueView& queues, const Workspace& workspace, const Options& options,
          std::ostream& out) {
  const auto names =
      options.experiment.empty() ? experiment_names(workspace) : std::vector<std::string>{options.experiment};
  const std::size_t most =
      options.all ? 0 : std::max<std::size_t>(3, screenful / std::max<std::size_t>(names.size(), 1));
  Json all = Json::array();
  Told told;
  const auto tell_one = [&](const std::string& name) {
    const auto plan = coordinator.plan(name);
    auto statuses = coordinator.statuses(*plan);
    const std::string problem = queues.update(workspace, *plan, statuses);
    if (!problem.empty()) std::cerr << "filo: states of " << name << " by the files alone: " << problem << "\n";
    told.settled = told.settled && is_settled(statuses);
    if (options.json)
      all.push_back(status_json(workspace, *plan, statuses));
    else
      out << status_text(workspace, *plan, statuses, most);
  };
  for (const auto& name : names) {
    try {
      tell_one(name);
    } catch (const Error& error) {
      if (!options.experiment.empty()) throw;
      told.problems += std::string("filo: ") + error.what() + "\n";
    }
  }
  if (options.json)
    out << all.dump(2) << "\n";
  else if (names.empty())
    out << "no experiment has run in " << workspace.root().string() << " yet (filo run FILE)\n";
  return told;
}

int status(const Options& options, const std::string& workspace_path) {
  const Workspace workspace(workspace_path, Workspace::Access::read);
  Coordinator coordinator(workspace, nullptr, {});
  QueueView queues;
  if (options.watch) install_stop_handlers();
  const bool terminal = isatty(STDOUT_FILENO) != 0;
  for (;;) {
    std::ostringstream text;
    const Told told = tell(coordinator, queues, workspace, options, text);
    if (options.watch && terminal) std::cout << "\033[H\033[J";
    std::cout << text.str() << std::flush;
    std::cerr << told.problems;
    if (!options.watch || told.settled) return told.problems.empty() ? 0 : static_cast<int>(ExitCode::failed);
    for (int i = 0; i < 20 && stop_requested() == 0; ++i) std::this_thread::sleep_for(between_looks / 20);
    if (stop_requested() != 0) return 0;
  }
}

}  // namespace

void add_status_command(CLI::App& program) {
  add_command(program, "status", "Prints how far experiments have come, and why a stage failed",
              [](CLI::App& command) -> Command {
                auto options = std::make_shared<Options>();
                auto workspace = workspace_option(command);
                command.add_option("EXPERIMENT", options->experiment, "Name of an experiment (default: all)");
                command.add_flag("--all", options->all, "Every stage, not only a screenful of those that matter most");
                command.add_flag("--watch", options->watch,
                                 "Go on every two seconds until nothing is left to wait for");
                command.add_flag("--json", options->json, "Print JSON, every stage included");
                return [options, workspace] { return status(*options, *workspace); };
              });
}

}  // namespace filo
