#include "scheduler/report/report.hpp"
#include "scheduler/report/stage_use.hpp"

#include <filesystem>
#include <iostream>
#include <memory>

#include "app/filo/commands.hpp"
#include "app/filo/workspace_option.hpp"
#include "base/installed.hpp"
#include "scheduler/plan/plan_file.hpp"

namespace filo {
namespace {

struct Options {
  std::string file;
  ReportFormat format = ReportFormat::markdown;
  bool json = false, resources = false;
};

int report(const Options& options, const std::string& workspace_path) {
  const Workspace workspace(workspace_path, Workspace::Access::read);
  const std::string name =
      std::filesystem::is_regular_file(shipped_file(options.file)) ? load_experiment(options.file).name : options.file;
  const ReportFormat format = options.json ? ReportFormat::json : options.format;
  const Plan plan = load_plan(workspace, name);
  std::cout << (options.resources ? resource_report(workspace, plan, format) : report_text(workspace, plan, format));
  return 0;
}

}  // namespace

void add_report_command(CLI::App& program) {
  add_command(program, "report", "Prints the tables of an experiment that ran", [](CLI::App& command) -> Command {
    auto options = std::make_shared<Options>();
    auto workspace = workspace_option(command);
    command.add_option("FILE", options->file, "Experiment file, or the name of an experiment")->required();
    add_choice<ReportFormat>(command, "--format", options->format,
                             {{"md", ReportFormat::markdown},
                              {"tex", ReportFormat::latex},
                              {"csv", ReportFormat::csv},
                              {"html", ReportFormat::html},
                              {"json", ReportFormat::json}},
                             "md, tex, csv, html or json (default: md)");
    command.add_flag("--resources", options->resources,
                     "What finished stages used of what they asked for, and what to ask for, in place of the results");
    command.add_flag("--json", options->json, "Short for --format json");
    return [options, workspace] { return report(*options, *workspace); };
  });
}

}  // namespace filo
