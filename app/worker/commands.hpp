// One function per subcommand (or family of them) of `filo-worker`, each in a file of its own.
#pragma once

#include "app/command_line.hpp"

namespace filo {

void add_init_clip_command(CLI::App& program);          // init-clip
void add_features_command(CLI::App& program);           // features
void add_boxes_command(CLI::App& program);              // boxes
void add_train_command(CLI::App& program);              // train
void add_evaluate_command(CLI::App& program);           // evaluate
void add_export_command(CLI::App& program);             // export
void add_probe_command(CLI::App& program);              // probe text | vision | init | forward
void add_bench_command(CLI::App& program);              // bench step | ...
void add_predict_command(CLI::App& program);            // predict
void add_import_checkpoint_command(CLI::App& program);  // import-checkpoint

}  // namespace filo
