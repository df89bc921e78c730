#include "app/worker/commands.hpp"
#include "app/worker/stage_options.hpp"
#include "trainer/stages.hpp"

namespace filo {

void add_evaluate_command(CLI::App& program) {
  add_stage_command(program, "evaluate", "Evaluate a checkpoint on another data set (a stage of an experiment)",
                    run_evaluate);
}

}  // namespace filo
