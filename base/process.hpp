// Child processes: started without a shell, in a process group of their own, never left behind.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace filo {

struct ProcessOptions {
  std::vector<std::string> arguments;                     // arguments[0] is the program, looked up in PATH
  std::map<std::string, std::string> environment = {};    // added to (or replacing in) this process's environment
  std::optional<std::filesystem::path> output_file = {};  // stdout and stderr are appended here; unset: inherited
  bool die_with_parent = true;                            // PR_SET_PDEATHSIG: SIGKILL when the parent dies
};

struct ProcessResult {
  int exit_code = 0;  // valid when signal == 0
  int signal = 0;     // the signal that ended it, or 0
  bool ok() const { return exit_code == 0 && signal == 0; }
};

// A running child. The destructor kills its group and reaps it, so nothing outlives its owner by accident.
class Process {
 public:
  // Throws Error when the program cannot be started (not found, no permission).
  explicit Process(const ProcessOptions& options);
  Process(Process&& other) noexcept;
  Process& operator=(Process&&) = delete;
  ~Process();

  pid_t pid() const { return pid_; }
  std::optional<ProcessResult> poll();  // the result once it has ended; never blocks
  ProcessResult wait();                 // blocks
  void signal_group(int signal);        // to the child and all that it started

 private:
  pid_t pid_ = -1;
  std::optional<ProcessResult> result_;
};

// Runs to the end and returns what it printed on stdout (stderr is inherited unless `with_stderr`).
// Ended by SIGKILL after `timeout_s` (result.signal = SIGKILL then).
struct CapturedOutput {
  ProcessResult result;
  std::string output;
};
CapturedOutput run_and_capture(const std::vector<std::string>& arguments, double timeout_s = 30,
                               bool with_stderr = false);

}  // namespace filo
