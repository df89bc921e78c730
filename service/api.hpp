// The HTTP API, version 1 (openapi.json tells every path), the page's files, and the figures for Prometheus.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "service/event_hub.hpp"
#include "service/http/counters.hpp"
#include "service/http/router.hpp"
#include "service/monitor.hpp"
#include "workspace/workspace.hpp"

namespace filo::service {

// What requests may ask of the coordinator. Each writes a durable request into the workspace, which the next pass acts
// on.
struct Actions {
  // Cancelling returns false when it is done: nothing was changed.
  std::function<bool(const std::string& stage, const std::string& reason)> cancel_stage{};
  std::function<void(const std::string& stage)> retry_stage{};
  std::function<bool(const std::string& experiment, const std::string& reason)> cancel_experiment{};
  std::function<void(const std::string& experiment)> retry_experiment{};
  std::function<void()> wake{};  // a pass soon
};

// The reconcile loop's passes, for GET /metrics.
struct PassCounters {
  std::atomic<std::uint64_t> passes{0}, failed_passes{0};
  std::atomic<double> pass_seconds{0};  // the last one's
};

struct ApiContext {
  const Workspace& workspace;
  EventHub& hub;
  const Monitor& monitor;
  const http::ServerCounters& requests;
  const PassCounters& passes;
  Actions actions;
  std::string version;
  std::string events_secret{};  // of the tokens that workers post with (workspace/server_file.hpp); "": none is taken
};

// The context must outlive the router.
http::Router make_router(const ApiContext& context);

}  // namespace filo::service
