// --workspace, the same for every subcommand that has one.
#pragma once

#include <cstdlib>
#include <memory>
#include <string>

#include "app/command_line.hpp"

namespace filo {

// The value is there once the command line is parsed.
inline std::shared_ptr<std::string> workspace_option(CLI::App& command) {
  const char* named = std::getenv("FILO_WORKSPACE");
  auto workspace = std::make_shared<std::string>(named != nullptr && *named != '\0' ? named : "workspace");
  command.add_option("--workspace", *workspace, "Workspace folder (default: $FILO_WORKSPACE, else ./workspace)");
  return workspace;
}

}  // namespace filo
