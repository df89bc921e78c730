// Lines on their way to an HTTP server, from a thread of its own: whoever hands them over is never kept waiting and
// never fails because of the server. Lines that cannot be delivered are dropped.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/http_client.hpp"

namespace filo {

struct HttpPosterOptions {
  std::size_t most_queued_bytes = 4 << 20;  // more are dropped
  std::size_t batch_bytes = 256 << 10;      // of one request's body, unless a single line is longer
  double gather_s = 0.1;                    // waits so long for further lines before it sends
  double timeout_s = 5;                     // connecting, sending and the answer, each
  double pause_s = 5;                       // after a failure; doubled up to a minute while failures last
  double linger_s = 1;                      // the destructor waits at most so long for what is queued
};

// Thread-safe. One POST of newline-separated lines at a time, over one connection that is kept open.
class HttpPoster {
 public:
  // `find_target` is asked before every new connection, on the poster's thread: a server that restarted elsewhere is
  // found again. `path` as in "/api/v1/stages/KEY/attempts/1/events".
  HttpPoster(std::function<std::optional<HttpTarget>()> find_target, std::string path, HttpPosterOptions options = {});
  HttpPoster(const HttpPoster&) = delete;
  HttpPoster& operator=(const HttpPoster&) = delete;
  ~HttpPoster();

  void post(std::string line) noexcept;  // without its newline

  std::uint64_t delivered() const;  // lines that a server has taken
  std::uint64_t dropped() const;

 private:
  struct State;
  std::shared_ptr<State> state_;  // shared with the thread, which may outlive this while it is stuck in a name look-up
};

}  // namespace filo
