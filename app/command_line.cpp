#include "app/command_line.hpp"

#include <iostream>

#include "app/version.hpp"
#include "base/error.hpp"

namespace filo {
namespace {

Command& chosen_command() {
  static Command command;
  return command;
}

}  // namespace

void add_command(CLI::App& parent, const std::string& name, const std::string& summary,
                 const std::function<Command(CLI::App&)>& define) {
  CLI::App* command = parent.add_subcommand(name, summary);
  command->callback([run = define(*command)] { chosen_command() = run; });
}

int run_program(CLI::App& program, int argc, char** argv) {
  program.set_version_flag("--version", std::string(program.get_name()) + " " FILO_VERSION);
  program.require_subcommand(1);
  try {
    program.parse(argc, argv);
  } catch (const CLI::Success& request) {  // --help, --version
    return program.exit(request);
  } catch (const CLI::ParseError& error) {
    std::cerr << program.get_name() << ": " << error.what() << " (see " << program.get_name() << " --help)\n";
    return static_cast<int>(ExitCode::usage);
  }
  try {
    return chosen_command()();
  } catch (const Error& error) {
    std::cerr << program.get_name() << ": " << error.what() << "\n";
    return static_cast<int>(error.exit_code());
  } catch (const std::exception& error) {
    std::cerr << program.get_name() << ": unexpected: " << error.what() << "\n";
    return static_cast<int>(ExitCode::failed);
  }
}

}  // namespace filo
