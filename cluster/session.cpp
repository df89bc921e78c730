#include "cluster/session.hpp"

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>

#include "cluster/mpi_call.hpp"

namespace filo {

namespace {

// Under mpirun a remote rank also has the variables of the srun that started mpirun's own daemon there: first of all
// those of the launcher itself. A batch script has no step's number.
constexpr const char* launchers[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"};

const char* launcher_variable() {
  for (const char* name : launchers)
    if (const char* value = std::getenv(name); value != nullptr && std::atoi(value) > 0) return name;
  return nullptr;
}

}  // namespace

std::optional<int> launched_processes() {
  const char* name = launcher_variable();
  const char* value = name == nullptr ? nullptr : std::getenv(name);
  return value == nullptr ? std::nullopt : std::optional(std::atoi(value));
}

MpiSession::MpiSession() : exceptions_at_start_(std::uncaught_exceptions()) {
  int provided = MPI_THREAD_SINGLE;
  check_mpi(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided), "MPI_Init_thread");
  check_mpi(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  check_mpi(MPI_Comm_rank(MPI_COMM_WORLD, &rank_), "MPI_Comm_rank");
  check_mpi(MPI_Comm_size(MPI_COMM_WORLD, &world_size_), "MPI_Comm_size");
  if (provided < MPI_THREAD_SERIALIZED)
    throw Error("mpi", "thread level found: " + std::to_string(provided) +
                           ", expected at least MPI_THREAD_SERIALIZED (" + std::to_string(MPI_THREAD_SERIALIZED) +
                           "): this MPI was built without threads");
  if (const auto launched = launched_processes(); launched && *launched != world_size_)
    throw Error("mpi", "found " + std::to_string(world_size_) + " ranks, expected the " + std::to_string(*launched) +
                           " that were launched (" + launcher_variable() +
                           "): the launcher's MPI is not the worker's; in a cluster file try another launcher.mpi "
                           "(`srun --mpi=list`) or launcher.program: mpirun");
}

MpiSession::~MpiSession() {
  if (std::uncaught_exceptions() > exceptions_at_start_ && world_size_ > 1) {
    std::fprintf(stderr, "filo-worker %d/%d: left by an exception: ending all ranks\n", rank_, world_size_);
    MPI_Abort(MPI_COMM_WORLD, static_cast<int>(ExitCode::failed));
  }
  MPI_Finalize();
}

int MpiSession::run(const std::function<int()>& work) {
  if (world_size_ == 1) return work();
  const auto report = [this](const char* message) {
    std::fprintf(stderr, "filo-worker %d/%d: %s\n", rank_, world_size_, message);
    std::fflush(stderr);
  };
  try {
    return work();
  } catch (const Error& error) {
    report(error.what());
    abort(error.exit_code());
  } catch (const std::exception& error) {
    report(error.what());
    abort(ExitCode::failed);
  }
}

void MpiSession::abort(ExitCode exit_code) {
  MPI_Abort(MPI_COMM_WORLD, static_cast<int>(exit_code));
  std::abort();  // MPI_Abort does not return; the compiler does not know
}

int gpu_of(int local_rank, int visible, bool bound_per_task) {
  if (bound_per_task && visible == 1) return 0;
  if (local_rank < visible) return local_rank;
  throw Error("device", "rank " + std::to_string(local_rank) + " of this host sees " + std::to_string(visible) +
                            " GPUs, expected one a rank");
}

}  // namespace filo
