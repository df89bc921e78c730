// A server on loopback for tests of HTTP clients: one connection at a time, each request answered as the test says.
#pragma once

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/files.hpp"

namespace filo {

class LoopbackServer {
 public:
  struct Request {
    std::string head;  // "POST /path HTTP/1.1\r\nHost: ...", without the empty line
    std::string body;
  };
  // `answer` gives the whole answer, status line included; it is called on the server's thread.
  using Answer = std::function<std::string(const Request&)>;

  // Listens on `port`; 0: any that is free.
  explicit LoopbackServer(Answer answer, int port = 0) : answer_(std::move(answer)) {
    listener_ = FileDescriptor(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const int on = 1;
    setsockopt(listener_.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    EXPECT_EQ(bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(listen(listener_.get(), 8), 0);
    getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { run(); });
  }
  explicit LoopbackServer(const std::string& answer = "HTTP/1.1 204 No Content\r\n\r\n")
      : LoopbackServer([answer](const Request&) { return answer; }) {}
  ~LoopbackServer() {
    stop_ = true;
    thread_.join();
  }

  int port() const { return port_; }
  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_); }
  int connections() const { return connections_; }
  std::vector<Request> requests() const {
    const std::lock_guard lock(mutex_);
    return requests_;
  }

  std::atomic<bool> close_after_each{false};
  std::atomic<bool> silent{false};  // takes connections and never answers

 private:
  static bool readable(int fd) {
    pollfd entry{fd, POLLIN, 0};
    return poll(&entry, 1, 20) > 0;
  }

  void run() {
    while (!stop_) {
      if (!readable(listener_.get())) continue;
      const FileDescriptor connection(accept(listener_.get(), nullptr, nullptr));
      ++connections_;
      std::string bytes;
      while (!stop_) {
        if (!readable(connection.get())) continue;
        char buffer[65536];
        const ssize_t got = recv(connection.get(), buffer, sizeof buffer, 0);
        if (got <= 0) break;
        bytes.append(buffer, static_cast<std::size_t>(got));
        Request request;
        if (silent || !take_request(bytes, request)) continue;
        const std::string answer = answer_(request);
        // A client may hang up on an answer that is too long.
        if (send(connection.get(), answer.data(), answer.size(), MSG_NOSIGNAL) < 0) break;
        if (close_after_each) break;
      }
    }
  }

  bool take_request(std::string& bytes, Request& request) {
    const auto end = bytes.find("\r\n\r\n");
    if (end == std::string::npos) return false;
    const auto at = bytes.find("Content-Length: ");
    const std::size_t length = at < end ? std::stoul(bytes.substr(at + 16)) : 0;
    if (bytes.size() < end + 4 + length) return false;
    request = {bytes.substr(0, end), bytes.substr(end + 4, length)};
    bytes.erase(0, end + 4 + length);
    const std::lock_guard lock(mutex_);
    requests_.push_back(request);
    return true;
  }

  const Answer answer_;
  FileDescriptor listener_;
  int port_ = 0;
  std::atomic<bool> stop_{false};
  std::atomic<int> connections_{0};
  mutable std::mutex mutex_;
  std::vector<Request> requests_;
  std::thread thread_;
};

}  // namespace filo
