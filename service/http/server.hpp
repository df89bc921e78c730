// The HTTP server: connections, limits, the token; what a request means is the router's matter.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "service/http/counters.hpp"
#include "service/http/router.hpp"

namespace filo::http {

struct ServerLimits {
  std::size_t header_bytes = 16 << 10;
  double first_header_s = 10;  // from the connection's begin to the end of the first request's header (TLS included)
  double idle_s = 75;          // between an accepted token and the end of the next request's header
  double body_s = 30;          // for a request's body
  double write_s = 30;         // for each piece of an answer
  std::size_t connections = 16384;  // and never more than the process's descriptors allow
  std::size_t streams = 256;        // of events, at a time
};

struct ServerOptions {
  std::string address = "127.0.0.1";  // an IP address; "0.0.0.0" or "::" for every interface
  std::uint16_t port = 0;             // 0: any that is free
  std::filesystem::path certificate;  // PEM chain; empty: plain HTTP
  std::filesystem::path key;
  std::string token;
  std::vector<std::string> allowed_hosts;  // in Host, besides IP addresses, localhost and this machine's name
  ServerLimits limits{};
};

// HTTP/1.1 on one thread, with two more for handlers that read files.
class Server {
 public:
  // Binds and listens. Throws UsageError on an address that cannot be had or a certificate or key that is no good.
  // `router` and `counters` must outlive it.
  Server(const ServerOptions& options, const Router& router, ServerCounters& counters);
  ~Server();

  std::uint16_t port() const;
  void run();   // until stop()
  void stop();  // from any thread: ends streams, lets answers that are on their way go out for a moment

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Whether a Host header may be answered. A page of another site that points its own name at this address (DNS
// rebinding) sends that name here; addresses, localhost, this machine's name and those allowed are ours.
bool is_allowed_host(const std::string& host_header, const std::vector<std::string>& allowed);

}  // namespace filo::http
