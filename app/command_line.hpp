// What the two programs' command lines share: parsing, --version, exit codes, errors as one line on stderr.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

namespace filo {

// What a subcommand returns; anything else than done is also how it tells EX_TEMPFAIL.
using Command = std::function<int()>;

// Adds a subcommand; `define` adds its options to the given CLI::App and returns what to run once they are parsed.
void add_command(CLI::App& parent, const std::string& name, const std::string& summary,
                 const std::function<Command(CLI::App&)>& define);

// Parses, runs the chosen command, prints errors, returns the exit code (0 done, 1 failed, 2 usage, 75 stopped early).
int run_program(CLI::App& program, int argc, char** argv);

}  // namespace filo
