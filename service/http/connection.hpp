// What the server's connections share. Private to server.cpp and the sessions.
#pragma once

#include <utility>  // GCC 12: before asio/awaitable.hpp, which forgets it

#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/thread_pool.hpp>

#include <atomic>
#include <chrono>
#include <string>

#include "service/http/server.hpp"

namespace filo::http {

struct Connections {
  const ServerOptions& options;
  const Router& router;
  ServerCounters& counters;
  boost::asio::thread_pool& pool;
  bool log_requests = false;
  std::atomic<bool> stopping{false};
  // A stream that waits looks so often whether it is over.
  static constexpr std::chrono::milliseconds longest_wait{15'000};
};

class OpenConnection {
 public:
  explicit OpenConnection(ServerCounters& counters) : counters_(&counters) { ++counters.open_connections; }
  OpenConnection(const OpenConnection&) = delete;
  OpenConnection& operator=(const OpenConnection&) = delete;
  ~OpenConnection() { --counters_->open_connections; }

 private:
  ServerCounters* counters_;
};

class OpenStream {
 public:
  explicit OpenStream(ServerCounters& counters) : counters_(counters) { ++counters.open_streams; }
  OpenStream(const OpenStream&) = delete;
  OpenStream& operator=(const OpenStream&) = delete;
  ~OpenStream() { --counters_.open_streams; }

 private:
  ServerCounters& counters_;
};

// Status line and headers; `length` null: a stream that ends with the connection.
std::string response_header(const Response& response, const std::uint64_t* length, bool keep_alive);

boost::asio::awaitable<void> plain_session(boost::asio::ip::tcp::socket socket, Connections& shared);
boost::asio::awaitable<void> tls_session(boost::asio::ip::tcp::socket socket, boost::asio::ssl::context& tls,
                                         Connections& shared);

}  // namespace filo::http
