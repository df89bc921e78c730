#include "app/worker/commands.hpp"
#include "app/worker/stage_options.hpp"
#include "trainer/stages.hpp"

namespace filo {

void add_export_command(CLI::App& program) {
  add_stage_command(program, "export",
                    "Make a bundle of a checkpoint, to be taken elsewhere (a stage of an experiment)", run_export);
}

}  // namespace filo
