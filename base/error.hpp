// The one error type of the project, and the exit codes of its programs.
//
// An Error ends a command or a trial. Its message is one line: component, file and key, what was found, what was
// expected. What is expected to happen and handled nearby is a value (std::optional), never an Error; a bug of ours is
// an assert.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace filo {

// Exit codes of `filo` and `filo-worker` (contract).
enum class ExitCode : int {
  done = 0,
  failed = 1,         // anything that is not one of the others
  usage = 2,          // wrong command line or configuration
  stopped_early = 75  // EX_TEMPFAIL: a snapshot was written, run the same command again
};

class Error : public std::runtime_error {
 public:
  // `where` names the component and, where there is one, the file and key: "settings: demo.yaml:12: model.clip".
  // `problem` says what was found and what was expected.
  Error(std::string_view where, std::string_view problem, ExitCode exit_code = ExitCode::failed)
      : std::runtime_error(std::string(where) + ": " + std::string(problem)), exit_code_(exit_code) {}

  ExitCode exit_code() const { return exit_code_; }

 private:
  ExitCode exit_code_;
};

// Wrong command line, configuration or input that the user named: exit code 2.
class UsageError : public Error {
 public:
  UsageError(std::string_view where, std::string_view problem) : Error(where, problem, ExitCode::usage) {}
};

}  // namespace filo
