#include "app/worker/commands.hpp"
#include "app/worker/stage_options.hpp"
#include "trainer/stages.hpp"

namespace filo {

void add_features_command(CLI::App& program) {
  add_stage_command(program, "features", "Encode a data set's images into the feature cache (a stage of an experiment)",
                    run_features);
}

}  // namespace filo
