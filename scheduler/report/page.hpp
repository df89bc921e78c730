// The page of a report: HTML without outside resources.
#pragma once

#include <filesystem>
#include <string>

#include "scheduler/plan/plan.hpp"
#include "workspace/workspace.hpp"

namespace filo {

// `copy_to`: the folder that gets the pictures, beside which the page finds them; null: none are copied.
std::string report_page(const Workspace& workspace, const Plan& plan, const std::filesystem::path* copy_to);

}  // namespace filo
