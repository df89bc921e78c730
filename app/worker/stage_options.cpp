#include "app/worker/stage_options.hpp"

#include <memory>

namespace filo {

void add_stage_command(CLI::App& program, const std::string& kind, const std::string& summary, void (*body)(Stage&)) {
  add_command(program, kind, summary, [kind, body](CLI::App& command) -> Command {
    auto arguments = std::make_shared<StageArguments>();
    command.add_option("--workspace", arguments->workspace, "the workspace folder")->required();
    command.add_option("--stage", arguments->key, "the stage's key: a folder of WORKSPACE/stages")->required();
    command.add_option("--attempt", arguments->attempt, "the number of this attempt")
        ->default_val(1)
        ->check(CLI::PositiveNumber);
    command.add_option("--threads", arguments->threads, "threads of each rank")
        ->default_val(1)
        ->check(CLI::PositiveNumber);
    command.add_option("--gpus", arguments->gpus, "GPUs of each rank: 0 = CPU")
        ->default_val(0)
        ->check(CLI::Range(0, 1));
    return [arguments, kind, body] { return run_stage(*arguments, kind, body); };
  });
}

}  // namespace filo
