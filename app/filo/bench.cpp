#include "bench/scheduler_bench.hpp"

#include <unistd.h>

#include <cstdio>
#include <iostream>
#include <memory>

#include "app/filo/commands.hpp"
#include "bench/events_bench.hpp"

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
  Json figures = bench_scheduler(options.bench);
  // Last: it confines this process to one core.
  figures["posted_events"] = http::bench_events({.workers = static_cast<int>(options.bench.workers),
                                                 .seconds = options.bench.seconds,
                                                 .folder = options.folder + "-serve"});
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
  std::printf("  most memory of filo serve                  %.0f MB\n", number("/serve_memory_mb"));
  std::printf("%.0f trials planned                          %.2f s\n", number("/plan/trials"), number("/plan/seconds"));
  std::printf(
      "%.0f workers, %.0f events a second read from their files: delay median %.2f s, at most %.2f s; %.0f %% of a "
      "core; %.0f lost\n",
      number("/events/workers"), number("/events/per_s"), number("/events/delay_s/median"),
      number("/events/delay_s/most"), number("/events/core") * 100, number("/events/lost"));
  std::printf(
      "%.0f events posted to filo serve: delay median %.3f s, 99 %% within %.3f s, at most %.3f s; %.0f %% of a "
      "core; %.0f MB; %.0f lost\n",
      number("/posted_events/events"), number("/posted_events/delay_ms/p50") / 1000,
      number("/posted_events/delay_ms/p99") / 1000, number("/posted_events/delay_ms/max") / 1000,
      number("/posted_events/server_cores") * 100, number("/posted_events/resident_bytes") / 1e6,
      number("/posted_events/failed"));
  if (figures.contains("submission"))
    std::printf("%.0f jobs submitted to Slurm                 %.2f s, %.0f commands to the controller\n",
                number("/submission/jobs"), number("/submission/seconds"), number("/submission/commands"));
  return 0;
}

}  // namespace

void add_bench_command(CLI::App& program) {
  CLI::App& family = add_command_family(program, "bench", "Measures the control plane on this machine");
  add_command(
      family, "scheduler", "A large workspace, a large plan, many workers' events, many jobs",
      [](CLI::App& command) -> Command {
        auto options = std::make_shared<Options>();
        SchedulerBenchOptions& bench_options = options->bench;
        using Size = std::size_t;
        add_number(command, "--stages", bench_options.stages, "Stages of the workspace", Size{10}, Size{10'000'000});
        add_number(command, "--trials", bench_options.trials, "Trials of the plan", Size{2}, Size{1'000'000});
        add_number(command, "--workers", bench_options.workers, "Simulated workers, an event a second each", Size{1},
                   Size{100'000});
        add_number(command, "--seconds", bench_options.seconds,
                   "How long they send events, and how long filo serve is watched", 1.0, 3600.0);
        command.add_option("--cluster", options->bench.cluster_file,
                           "Cluster file: submit jobs to this Slurm cluster too, and cancel them");
        add_number(command, "--jobs", bench_options.jobs, "Jobs to submit (with --cluster)", Size{1}, Size{1'000'000});
        command.add_option("--folder", options->folder,
                           "Made, and removed afterwards; with --cluster on a file system that the nodes share "
                           "(default: one in the temporary folder)");
        command.add_flag("--json", options->json, "Print JSON");
        return [options] { return bench(*options); };
      });
}

}  // namespace filo
