// `filo serve`: the reconcile loop, the HTTP API and the web page in one process.
#pragma once

#include <filesystem>
#include <functional>
#include <iosfwd>
#include <string>
#include <vector>

#include "scheduler/control/coordinator.hpp"
#include "service/http/server.hpp"
#include "workspace/workspace.hpp"

namespace filo::service {

inline constexpr std::uint16_t default_port = 8321;

struct ServeOptions {
  std::string listen = "127.0.0.1:" + std::to_string(default_port);  // ADDRESS:PORT or [ADDRESS]:PORT; port 0: any
  std::filesystem::path token_file;                                  // empty: WORKSPACE/token
  std::filesystem::path certificate;                                 // PEM; with `key`: HTTPS
  std::filesystem::path key;
  std::vector<std::string> allowed_hosts;  // names in Host besides addresses, localhost and this machine's
  http::ServerLimits limits{};
  double grace_s = 120;  // for the snapshots of local stages when it is stopped
  double poll_s = 10;    // between looks at a cluster's queue, when nothing was asked for and nothing happened
  std::string version{};
  bool show_token = false;              // in the address that is printed: for a terminal, not for a log
  ExecutorFactory executors = nullptr;  // null: nothing is started, only looked at
  CoordinatorOptions coordinator{};
  std::function<bool()> stop = [] { return false; };  // asked for often; true once: ends
};

// Serves until `stop`; stages that run on this machine write a snapshot then, jobs of a cluster go on. While it runs,
// WORKSPACE/server.json (mode 0600) tells workers where it is: {"url", "events_secret", "certificate" (PEM, with TLS),
// and who serves} (workspace/server_file.hpp). Throws UsageError on an address, token or certificate that is no good,
// before anything is started.
void serve(const Workspace& workspace, const ServeOptions& options, std::ostream& out);

// "127.0.0.1:8321" or "[::1]:8321" taken apart. Throws UsageError.
std::pair<std::string, std::uint16_t> parse_listen(const std::string& text);

}  // namespace filo::service
