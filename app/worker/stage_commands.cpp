// The commands that run one attempt at a stage of an experiment; `filo run`, `filo serve` and Slurm's jobs start them.
#include <memory>

#include "app/version.hpp"
#include "app/worker/commands.hpp"
#include "trainer/stage.hpp"
#include "trainer/stages.hpp"

namespace filo {
namespace {

struct StageCommand {
  const char* kind;
  const char* summary;
  void (*body)(Stage&);
};

constexpr StageCommand stage_commands[] = {
    {"features", "Encode a data set's images into the feature cache (a stage of an experiment)", run_features},
    {"boxes", "Check a file of boxes against a data set (a stage of an experiment)", run_boxes},
    {"train", "Train the learnable part on cached features (a stage of an experiment)", run_train},
    {"evaluate", "Evaluate a checkpoint on another data set (a stage of an experiment)", run_evaluate},
    {"export", "Make a bundle of a checkpoint, to be taken elsewhere (a stage of an experiment)", run_export},
};

}  // namespace

void add_stage_commands(CLI::App& program) {
  for (const auto& [kind, summary, body] : stage_commands) {
    add_command(program, kind, summary, [kind = kind, body = body](CLI::App& command) -> Command {
      auto arguments = std::make_shared<StageArguments>();
      arguments->version = FILO_VERSION;
      command.add_option("--workspace", arguments->workspace, "the workspace folder")->required();
      command.add_option("--stage", arguments->key, "the stage's key: a folder of WORKSPACE/stages")->required();
      add_number(command, "--attempt", arguments->attempt, "the number of this attempt", 1);
      add_number(command, "--threads", arguments->threads, "threads of each rank", 1);
      add_number(command, "--gpus", arguments->gpus, "GPUs of each rank: 0 = CPU", 0, 1);
      add_number(command, "--hang-timeout", arguments->hang_timeout_s,
                 "seconds after which a job whose ranks do not get on is ended; 0 = never", 0);
      const auto add_size = [&](const char* name, std::string& value, const char* what) {
        command.add_option(name, value, what)->check(memory_fault)->capture_default_str();
      };
      add_size("--prefetch-memory", arguments->prefetch_memory,
               "memory of each rank for batches that are read ahead: digits and K, M, G or T");
      add_size("--shard-size", arguments->shard_size, "size of a feature cache's files, likewise");
      command.add_option("--local-copy", arguments->local_copy,
                         "folder on this machine's disk that gets copies of the feature caches that are read; may "
                         "begin with $VARIABLE");
      return [arguments, kind, body] { return run_stage(*arguments, kind, body); };
    });
  }
}

}  // namespace filo
