#include "scheduler/executors/doctor/doctor.hpp"

#include <cstdlib>
#include <iostream>
#include <memory>
#include <optional>

#include "app/filo/commands.hpp"
#include "app/filo/workspace_option.hpp"
#include "app/version.hpp"
#include "base/error.hpp"
#include "scheduler/executors/machine.hpp"

namespace filo {
namespace {

struct Options {
  std::string cluster;
  double wait_s = 60;
  bool json = false;
};

void print(const Check& check) {
  const char* mark = check.verdict == Check::Verdict::good      ? "ok     "
                     : check.verdict == Check::Verdict::warning ? "warning"
                                                                : "FAILS  ";
  std::cout << mark << "  " << check.name << ": " << check.found << "\n";
  if (!check.mend.empty()) std::cout << "           mend: " << check.mend << "\n";
}

std::filesystem::path worker_or_guess() {
  try {
    return find_worker();
  } catch (const Error&) {
    return "filo-worker";  // check_programs says what is wrong with it
  }
}

int doctor(const Options& options, const std::string& workspace) {
  std::optional<ClusterSettings> settings;
  if (!options.cluster.empty()) settings = load_cluster_settings(options.cluster);
  const auto worker = worker_or_guess();
  std::vector<Check> checks = check_programs(FILO_VERSION, worker);
  const auto add = [&](std::vector<Check> more) { checks.insert(checks.end(), more.begin(), more.end()); };
  add(check_workspace(workspace));
  if (settings) add(check_cluster(*settings, std::filesystem::absolute(workspace), FILO_VERSION, options.wait_s));
  bool bad = false;
  Json list = Json::array();
  for (const auto& check : checks) {
    bad = bad || check.verdict == Check::Verdict::bad;
    if (options.json)
      list.push_back(to_json(check));
    else
      print(check);
  }
  if (options.json) std::cout << Json{{"version", FILO_VERSION}, {"works", !bad}, {"checks", list}}.dump(2) << "\n";
  return bad ? static_cast<int>(ExitCode::failed) : 0;
}

}  // namespace

void add_doctor_command(CLI::App& program) {
  add_command(program, "doctor", "Tries what the programs rest on: what works, what does not, and the mend",
              [](CLI::App& command) -> Command {
                auto options = std::make_shared<Options>();
                auto workspace = workspace_option(command);
                command.add_option("--cluster", options->cluster,
                                   "Cluster file: Slurm is tried too, with a job of a minute");
                add_number(command, "--wait", options->wait_s, "Seconds to wait for that job; 0: send none", 0.0);
                command.add_flag("--json", options->json, "Print JSON");
                return [options, workspace] { return doctor(*options, *workspace); };
              });
}

}  // namespace filo
