// Where stages run. One interface, so that reconcile() does not know whether that is this machine or a cluster.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "base/files.hpp"
#include "base/json.hpp"
#include "scheduler/plan/plan.hpp"
#include "workspace/workspace.hpp"

namespace filo {

enum class JobState { pending, running, ended };

// Why an attempt ended, as far as its executor can tell.
enum class EndCause {
  exited,         // by itself, see exit_code
  signalled,      // see signal
  timeout,        // ran longer than resources.time
  out_of_memory,  // used more than resources.memory
  node_failure,
  unhealthy_node,  // the check before the worker refused the node
  preempted,
  cancelled,  // by somebody outside, or by kill()
  vanished,   // nobody knows of it any more
};
std::string to_string(EndCause cause);  // "out_of_memory"

// One attempt that an executor knows of.
struct Job {
  std::string stage;  // key
  int attempt = 0;
  JobState state = JobState::running;
  bool asked_to_stop = false;         // by stop() or kill(): what it then exits with is no failure
  EndCause cause = EndCause::exited;  // valid when it has ended
  int exit_code = 0;                  // valid with EndCause::exited
  int signal = 0;                     // valid with EndCause::signalled
  std::string where{};                // for people: "Slurm job 12_3 on n1"; "" for this machine
  std::string node{};                 // where it ran; "": this machine, several, or not known
  double seconds = -1;                // that it ran, when it has ended; below 0: not known
};

// Options of filo-worker that are given only where they are not its defaults: {"--gpus", "1"}.
std::vector<std::string> worker_options(const ResourceSettings& resources);

struct StartRequest {
  const PlannedStage* stage = nullptr;
  int attempt = 0;
  ResourceSettings resources{};  // after the rules gave more time or memory
};

// Not thread-safe: one pass at a time calls it.
class Executor {
 public:
  virtual ~Executor() = default;

  // "local", "slurm NAME". Claims carry it as "executor", so that the executor of that name is asked about them.
  virtual std::string name() const = 0;

  // Of an executor that asks others and may wait for them (a cluster's commands): held from jobs() to the end of
  // start(), so that nobody else's pass waits for them too. Not valid: start() wants the workspace's lock, under which
  // the processes of one machine agree on its cores.
  virtual FileDescriptor lock() const { return {}; }

  // All attempts it knows of, in one query; an ended one stays listed until forget(). Throws Error when the query
  // failed: the pass then starts and concludes nothing.
  virtual std::vector<Job> jobs() = 0;

  // What of these a stage may get here.
  virtual ResourceSettings allowed(const ResourceSettings& wanted) const { return wanted; }

  // Takes room for one more stage until the next jobs(); false: there is none.
  virtual bool reserve(const ResourceSettings& resources) = 0;

  // What goes into claim.json of each attempt, in the requests' order; it is written durably before start(). Each holds
  // "executor": name(), and what tells this attempt from every other (a unique job name, a process).
  virtual std::vector<Json> prepare(const std::vector<StartRequest>& requests) = 0;

  // Starts them; "" or why one could not be started (its attempt then counts as failed), in the requests' order.
  virtual std::vector<std::string> start(const std::vector<StartRequest>& requests,
                                         const std::vector<Json>& claims) = 0;

  // What start() makes of an attempt: running, or pending in a queue.
  virtual JobState state_once_started() const { return JobState::running; }

  // Whether an attempt with this claim may still run (or come to run) although the latest jobs() did not list it: it
  // was claimed by another process, perhaps on another host. Asked about claims of name() only. `age_s` gives the
  // seconds since the claim was written or touched.
  virtual bool may_be_running(const Json& claim, const std::function<double()>& age_s) const = 0;

  // How long the result of an attempt that ended well may take to appear: file systems of several hosts show files
  // late. Seconds.
  virtual double result_grace_s() const { return 0; }

  // Has the attempt write a snapshot and exit 75 (SIGUSR2). Idempotent; an attempt that it does not know is left alone.
  virtual void stop(const std::string& stage, int attempt) = 0;
  // Ends the attempt at once. Idempotent likewise.
  virtual void kill(const std::string& stage, int attempt) = 0;

  // How an attempt of jobs() ended, before that is recorded: says something of the node that it ran on.
  virtual void judge(const Job&, const AttemptOutcome&) {}

  // The attempt's end is recorded: jobs() need not list it any more.
  virtual void forget(const std::string& stage, int attempt) = 0;

  // Of its jobs those that are children of this process, and end with it; none on a cluster. Asks nobody: may be called
  // many times a second.
  struct Children {
    std::size_t running = 0;
    std::size_t ended = 0;  // and not forgotten yet
  };
  virtual Children children() { return {}; }
  // stop() for each of them that runs.
  virtual void stop_children() {}
  // For those that did not heed stop_children(): ends them, at once when called again some seconds later.
  virtual void end_children() {}
};

}  // namespace filo
