#include "app/command_line.hpp"

#include <iostream>
#include <vector>

#include "app/version.hpp"
#include "base/error.hpp"
#include "base/text.hpp"

namespace filo {
namespace {

Command& chosen_command() {
  static Command command;
  return command;
}

// CLI11 says "A subcommand is required" of a subcommand that it does not know: this says which word that was.
std::string message_of(const CLI::ParseError& error, const CLI::App& program) {
  const CLI::App* parent = &program;
  while (!parent->get_subcommands().empty()) parent = parent->get_subcommands().front();
  std::vector<std::string> known;
  for (const CLI::App* command : parent->get_subcommands({})) known.push_back(command->get_name());
  const std::vector<std::string> words = parent->remaining();
  if (known.empty() || words.empty()) return error.what();
  if (words.front().starts_with('-')) return "unknown option '" + words.front() + "'";
  return "unknown command '" + words.front() + "'" + did_you_mean(words.front(), known);
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
    std::cerr << program.get_name() << ": " << message_of(error, program) << " (see " << program.get_name()
              << " --help)\n";
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
