// What goes out as server-sent events: read from events.jsonl (workspace/events.hpp), or as workers post it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "service/event_hub.hpp"
#include "service/http/message.hpp"
#include "workspace/workspace.hpp"

namespace filo::service {

// Where a reader of a stage's events stands: "ATTEMPT-SEQUENCE" as the id of an event.
struct EventPosition {
  int attempt = 0;
  std::int64_t sequence = -1;
};
std::optional<EventPosition> parse_event_id(const std::string& id);
std::string event_id(const EventPosition& position);

// All events of one stage after `position`, of one attempt after the other, none twice and none out of order: read from
// the files, and taken from what workers post where that is the next one and the file does not show it yet.
std::shared_ptr<http::EventSource> stage_events(const Workspace& workspace, EventHub& hub, const std::string& stage,
                                                EventPosition position);

// Announcements after `last_event_id` ("EPOCH-NUMBER"; "": from now on). Begins with {"event": "reset"} when some of
// them are gone: what the reader knows is out of date then.
std::shared_ptr<http::EventSource> workspace_events(EventHub& hub, const std::string& last_event_id);

}  // namespace filo::service
