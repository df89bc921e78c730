// What a report shows in tables: the results, then each search's draws.
#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "scheduler/report/tables.hpp"

namespace filo {

using ReportTable = std::variant<ResultTable, TextTable>;
std::vector<ReportTable> report_tables(const Workspace& workspace, const Plan& plan,
                                       const std::vector<TrialResult>& results);

// A search's draws for programs, best first: numbers as numbers, `last` as the metric stands in the events (or, of an
// evaluation, in per cent).
Json search_json(const Workspace& workspace, const Plan& plan, const std::string& experiment);

// Where the trial's checkpoint lies; unset while there is none.
std::optional<std::string> checkpoint_of(const Workspace& workspace, const PlannedTrial& trial);

}  // namespace filo
