// What the `probe` subcommands share. Each runs one part of the model on given tensors, so that anyone can compare
// (contract: docs/reference/command-line.md).
#pragma once

#include "app/command_line.hpp"
#include "base/error.hpp"

namespace filo {

// Runs `read`, which reads files that the user named: whatever is wrong with them is wrong usage (exit code 2).
template <typename Read>
auto read_input(Read&& read) {
  try {
    return read();
  } catch (const UsageError&) {
    throw;
  } catch (const Error& error) {
    throw UsageError("probe", error.what());
  }
}

void add_probe_init_command(CLI::App& probe);     // probe init (probe_forward.cpp)
void add_probe_forward_command(CLI::App& probe);  // probe forward (probe_forward.cpp)

}  // namespace filo
