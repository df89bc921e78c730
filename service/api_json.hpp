// The shapes that the API answers with.
#pragma once

#include <string>

#include "service/api.hpp"

namespace filo::service {

Json experiment_json(const std::string& name, const ExperimentView& experiment);
Json trial_json(const ExperimentView& experiment, std::size_t trial);
Json stage_json(const View::Found& found, const EventHub& hub);  // as in lists
// With spec, result and what it needs; reads files.
Json stage_details_json(const ApiContext& context, const View& view, const std::vector<View::Found>& found);
Json attempts_json(const Workspace& workspace, const std::string& key);
// {"series": [{"name": "loss", "phase": "main", "unit": "step", "points": [[x, y], ...]}], "last_event_id"}: all
// attempts in one, each step once (workspace/events.hpp); at most `points` of each series, evenly spread.
Json curves_json(const Workspace& workspace, const std::string& key, std::size_t points);
std::string prometheus_text(const ApiContext& context);

const std::vector<StageState>& all_states();

}  // namespace filo::service
