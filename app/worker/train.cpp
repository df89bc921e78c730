#include "app/worker/commands.hpp"
#include "app/worker/stage_options.hpp"
#include "trainer/stages.hpp"

namespace filo {

void add_train_command(CLI::App& program) {
  add_stage_command(program, "train", "Train the learnable part on cached features (a stage of an experiment)",
                    run_train);
}

}  // namespace filo
