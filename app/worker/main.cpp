#include <malloc.h>

#include "app/worker/commands.hpp"
#include "base/log.hpp"

int main(int argc, char** argv) {
  // Tensors of this size and more go back to the system when freed: kept in the heap, the holes between them made a
  // training step's memory 14 % larger (docs/explanations/performance.md).
  mallopt(M_MMAP_THRESHOLD, 8 << 20);
  filo::start_logging("filo-worker");
  CLI::App program("Data plane of the FiLo++ training service: encodes, trains, evaluates. Started by mpirun or srun.",
                   "filo-worker");
  filo::add_stage_commands(program);
  filo::add_predict_command(program);
  filo::add_init_clip_command(program);
  filo::add_import_checkpoint_command(program);
  filo::add_probe_command(program);
  filo::add_bench_command(program);
  return filo::run_program(program, argc, argv);
}
