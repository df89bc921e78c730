#include "scheduler/bench.hpp"

#include <unistd.h>

#include <cstdio>
#include <iostream>
#include <memory>

#include "app/filo/commands.hpp"
#include "scheduler/http/bench_events.hpp"

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

int bench_serve(http::BenchEventsOptions options, const std::string& folder, bool json) {
  options.folder = folder.empty() ? std::filesystem::temp_directory_path() / ("filo-bench-" + std::to_string(getpid()))
                                  : std::filesystem::path(folder);
  const Json figures = http::bench_events(options);
  if (json) {
    std::cout << figures.dump(2) << "\n";
    return 0;
  }
  std::printf("%d workers for %.0f s, an event a second each: %.0f events taken, %.0f not\n", options.workers,
              options.seconds, figures["events"].get<double>(), figures["failed"].get<double>());
  std::printf("  delay: median %.1f ms, 99 %% within %.1f ms, at most %.1f ms; %.0f %% of a core; %.0f MB\n",
              figures["delay_ms"]["p50"].get<double>(), figures["delay_ms"]["p99"].get<double>(),
              figures["delay_ms"]["max"].get<double>(), 100 * figures["server_cores"].get<double>(),
              figures["resident_bytes"].get<double>() / 1e6);
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
  add_command(*bench_family, "serve", "filo serve on one core, and workers that post their events to it",
              [](CLI::App& command) -> Command {
                auto options = std::make_shared<http::BenchEventsOptions>();
                auto folder = std::make_shared<std::string>();
                auto json = std::make_shared<bool>(false);
                command.add_option("--workers", options->workers, "Simulated workers, an event a second each")
                    ->capture_default_str()
                    ->check(CLI::Range(1, 100'000));
                command.add_option("--seconds", options->seconds, "How long they post")
                    ->capture_default_str()
                    ->check(CLI::Range(1.0, 3600.0));
                command.add_option("--folder", *folder,
                                   "Made, and removed afterwards (default: one in the temporary folder)");
                command.add_flag("--json", *json, "Print JSON");
                return [options, folder, json] { return bench_serve(*options, *folder, *json); };
              });
}

}  // namespace filo
