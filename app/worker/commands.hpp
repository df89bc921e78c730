// One function per subcommand (or family of them) of `filo-worker`, each in a file of its own.
#pragma once

#include "app/command_line.hpp"

namespace filo {

void add_init_clip_command(CLI::App& program);          // init-clip
void add_stage_commands(CLI::App& program);             // features, boxes, train, evaluate, export
void add_probe_command(CLI::App& program);              // probe text | vision | init | forward
void add_bench_command(CLI::App& program);              // bench step | kernels
void add_predict_command(CLI::App& program);            // predict
void add_import_checkpoint_command(CLI::App& program);  // import-checkpoint

}  // namespace filo
