#include "app/worker/commands.hpp"
#include "app/worker/stage_options.hpp"
#include "trainer/stages.hpp"

namespace filo {

void add_boxes_command(CLI::App& program) {
  add_stage_command(program, "boxes", "Check a file of boxes against a data set (a stage of an experiment)", run_boxes);
}

}  // namespace filo
