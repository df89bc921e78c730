// MPI's life in this process: started once, finished once, and never a rank left waiting for one that died.
#pragma once

#include <functional>
#include <optional>

#include "base/error.hpp"

namespace filo {

// Starts MPI (MPI_THREAD_SERIALIZED) and finishes it. One per process. Started without mpirun it is a world of one.
// Throws Error where the launcher started another number of processes than MPI knows of: each would do all of the work.
// Throws Error when MPI does not start. Start it before other threads exist; install_stop_handlers() may come before or
// after.
//
// Preemption: mpirun passes SIGUSR2 on to the ranks as it is; on SIGTERM or SIGINT it kills the whole job after a grace
// of seconds. Whoever wants a snapshot signals the ranks with SIGUSR2, or the rank processes themselves.
class MpiSession {
 public:
  MpiSession();
  MpiSession(const MpiSession&) = delete;
  MpiSession& operator=(const MpiSession&) = delete;
  // Left by an exception in a world of more than one: aborts the job, since the other ranks would wait forever.
  // (run() is better: it also says why.)
  ~MpiSession();

  int rank() const { return rank_; }
  int world_size() const { return world_size_; }

  // Runs `work` and returns what it returns. An exception in a world of one passes through; in a larger world it is
  // printed on stderr as one line "filo-worker RANK/WORLD: MESSAGE" and the job is aborted with its exit code
  // (Error::exit_code(), else 1), so that the other ranks end too. mpirun then exits with that code.
  int run(const std::function<int()>& work);

  // Ends all ranks at once. Everything that must be on disk is on disk before.
  [[noreturn]] void abort(ExitCode exit_code);

 private:
  int rank_ = 0;
  int world_size_ = 1;
  int exceptions_at_start_ = 0;
};

// How many processes a launcher says that it started, by its variables in the environment: Open MPI's mpirun, MPICH's,
// or srun. Unset: none of them did.
std::optional<int> launched_processes();

// The number of a rank's GPU among those that it sees. Under srun's --gpus-per-task each rank sees its own alone, as
// number 0. Throws Error where there are fewer than ranks.
int gpu_of(int local_rank, int visible, bool bound_per_task);

}  // namespace filo
