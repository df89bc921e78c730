// The options that the three stage commands share.
#pragma once

#include <string>

#include "app/command_line.hpp"
#include "trainer/stage.hpp"

namespace filo {

void add_stage_command(CLI::App& program, const std::string& kind, const std::string& summary, void (*body)(Stage&));

}  // namespace filo
