#include "app/worker/commands.hpp"
#include "base/log.hpp"

int main(int argc, char** argv) {
  filo::start_logging("filo-worker");
  CLI::App program("Data plane of the FiLo++ training service: encodes, trains, evaluates. Started by mpirun or srun.", "filo-worker");
  return filo::run_program(program, argc, argv);
}
