// The HTTP API, version 1 (openapi.json tells every path), the page's files, and the figures for Prometheus.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "service/event_hub.hpp"
#include "service/http/counters.hpp"
#include "service/http/router.hpp"
#include "service/monitor.hpp"
#include "workspace/workspace.hpp"

namespace filo::http {

// What requests may ask of the coordinator. Each writes a durable request into the workspace, which the next pass acts
// on.
struct Actions {
  std::function<bool(const std::string& stage, const std::string& reason)> cancel_stage{};  // false: it is done
  std::function<void(const std::string& stage)> retry_stage{};
  std::function<void(const std::string& experiment, const std::string& reason)> cancel_experiment{};
  std::function<void(const std::string& experiment)> retry_experiment{};
  std::function<void()> wake{};  // a pass soon
};

struct ApiContext {
  const Workspace& workspace;
  EventHub& hub;
  const Monitor& monitor;
  ServerCounters& counters;
  Actions actions;
  std::string version;
};

// The context must outlive the router.
Router make_router(const ApiContext& context);

// Name and bytes of the page's files, as embedded at build time.
struct Asset {
  std::string_view path;  // "/app.js"
  std::string_view media_type;
  std::string_view bytes;
};
const Asset* find_asset(std::string_view path);

}  // namespace filo::http
