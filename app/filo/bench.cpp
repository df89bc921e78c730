#include "scheduler/bench.hpp"

#include <unistd.h>

#include <cstdio>
#include <iostream>
#include <memory>

#include "app/filo/commands.hpp"

namespace filo {
namespace {

struct Options {
  SchedulerBenchOptions bench;
  std::string folder;
  bool json = false;
};

int bench(Options options) {
  if (options.folder.empty())
    options.folder = std::filesystem::temp_directory_path() / ("filo-bench-" + std::to_string(getpid()));
  options.bench.folder = options.folder;
  options.bench.program = std::filesystem::read_symlink("/proc/self/exe");
  options.bench.progress = [](const std::string& line) { std::cerr << line << "\n"; };
  const Json figures = bench_scheduler(options.bench);
  if (options.json) {
    std::cout << figures.dump(2) << "\n";
    return 0;
  }
  const auto number = [&](const char* pointer) {
    const Json& value = figures.at(Json::json_pointer(pointer));
    return value.is_number() ? value.get<double>() : 0.0;
  };
  std::printf("%.0f stages: first pass, without an index  %.2f s\n", number("/stages"), number("/rescan_s"));
  std::printf("  filo reconcile with nothing to do          %.2f s (a loop's next pass %.2f s)\n", number("/pass_s"),
              number("/next_pass_s"));
  std::printf("  filo status                                %.2f s\n", number("/status_s"));
  std::printf("  most memory of a process                   %.0f MB\n", number("/memory_mb"));
  std::printf("%.0f trials planned                          %.2f s\n", number("/plan/trials"), number("/plan/seconds"));
  std::printf(
      "%.0f workers' events, %.0f a second: delay       median %.2f s, at most %.2f s; %.0f %% of a core; %.0f lost\n",
      number("/events/workers"), number("/events/per_s"), number("/events/delay_s/median"),
      number("/events/delay_s/most"), number("/events/core") * 100, number("/events/lost"));
  return 0;
}

}  // namespace

void add_bench_command(CLI::App& program) {
  CLI::App* bench_family = program.add_subcommand("bench", "Measures the control plane on this machine");
  bench_family->require_subcommand(1);
  add_command(*bench_family, "scheduler", "A large workspace, a large plan, many workers' events",
              [](CLI::App& command) -> Command {
                auto options = std::make_shared<Options>();
                command.add_option("--stages", options->bench.stages, "Stages of the workspace")
                    ->capture_default_str()
                    ->check(CLI::Range(std::size_t{10}, std::size_t{10'000'000}));
                command.add_option("--trials", options->bench.trials, "Trials of the plan")
                    ->capture_default_str()
                    ->check(CLI::Range(2, 1'000'000));
                command.add_option("--workers", options->bench.workers, "Simulated workers, an event a second each")
                    ->capture_default_str()
                    ->check(CLI::Range(1, 100'000));
                command.add_option("--folder", options->folder,
                                   "Made, and removed afterwards (default: one in the temporary folder)");
                command.add_flag("--json", options->json, "Print JSON");
                return [options] { return bench(*options); };
              });
}

}  // namespace filo
