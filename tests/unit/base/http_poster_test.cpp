#include "base/http_poster.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <thread>

#include "base/files.hpp"

namespace filo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Clock = std::chrono::steady_clock;

// A loopback server that answers each request as told and keeps the bodies' lines.
class LoopbackServer {
 public:
  explicit LoopbackServer(std::string answer = "HTTP/1.1 204 No Content\r\n\r\n") : answer_(std::move(answer)) {
    listener_ = FileDescriptor(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    EXPECT_EQ(bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(listen(listener_.get(), 8), 0);
    getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { run(); });
  }
  ~LoopbackServer() {
    stop_ = true;
    thread_.join();
  }

  HttpTarget target() const { return {"http://127.0.0.1:" + std::to_string(port_), "the-token", ""}; }
  std::vector<std::string> lines() const {
    const std::lock_guard lock(mutex_);
    return lines_;
  }
  std::string head() const {
    const std::lock_guard lock(mutex_);
    return head_;
  }
  int connections() const { return connections_; }

  std::atomic<bool> close_after_each{false};
  std::atomic<bool> silent{false};  // takes connections and never answers

 private:
  bool readable(int fd) const {
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
        if (silent || !take_request(bytes)) continue;
        EXPECT_EQ(send(connection.get(), answer_.data(), answer_.size(), MSG_NOSIGNAL),
                  static_cast<ssize_t>(answer_.size()));
        if (close_after_each) break;
      }
    }
  }

  bool take_request(std::string& bytes) {
    const auto end = bytes.find("\r\n\r\n");
    if (end == std::string::npos) return false;
    const auto at = bytes.find("Content-Length: ");
    const std::size_t length = std::stoul(bytes.substr(at + 16));
    if (bytes.size() < end + 4 + length) return false;
    const std::lock_guard lock(mutex_);
    head_ = bytes.substr(0, end);
    const std::string body = bytes.substr(end + 4, length);
    for (std::size_t start = 0, stop; (stop = body.find('\n', start)) != std::string::npos; start = stop + 1)
      lines_.push_back(body.substr(start, stop - start));
    bytes.erase(0, end + 4 + length);
    return true;
  }

  const std::string answer_;
  FileDescriptor listener_;
  int port_ = 0;
  std::thread thread_;
  std::atomic<bool> stop_{false};
  std::atomic<int> connections_{0};
  mutable std::mutex mutex_;
  std::vector<std::string> lines_;
  std::string head_;
};

template <typename Condition>
bool within(double seconds, Condition condition) {
  const auto deadline = Clock::now() + std::chrono::duration<double>(seconds);
  while (!condition()) {
    if (Clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return true;
}

const HttpPosterOptions quick = {.gather_s = 0.01, .timeout_s = 0.5, .pause_s = 0.05, .linger_s = 1};

TEST(HttpPoster, LinesArriveInOrderOverOneConnectionWithTheToken) {
  LoopbackServer server;
  {
    HttpPoster poster([&] { return server.target(); }, "/events", quick);
    poster.post("one");
    ASSERT_TRUE(within(5, [&] { return server.lines().size() == 1; }));
    poster.post("two");
    poster.post("three");
  }  // what is queued still goes out
  EXPECT_THAT(server.lines(), ElementsAre("one", "two", "three"));
  EXPECT_EQ(server.connections(), 1);
  EXPECT_THAT(server.head(), HasSubstr("POST /events HTTP/1.1\r\n"));
  EXPECT_THAT(server.head(), HasSubstr("\r\nAuthorization: Bearer the-token"));
}

// Guards the stage: nobody there, or a server that takes connections and says nothing, costs the caller nothing.
TEST(HttpPoster, AServerThatIsAwayCostsNothing) {
  LoopbackServer mute;
  mute.silent = true;
  for (const HttpTarget& target :
       {HttpTarget{"http://127.0.0.1:1", "t", ""}, mute.target(), HttpTarget{"nonsense", "t", ""}}) {
    const auto start = Clock::now();
    {
      HttpPoster poster([&] { return target; }, "/events", quick);
      for (int i = 0; i < 10'000; ++i) poster.post("a line of some length that nobody will ever read");
      EXPECT_LT(Clock::now() - start, std::chrono::milliseconds(500));
    }
    EXPECT_LT(Clock::now() - start, std::chrono::milliseconds(2500)) << "the end is not held up either";
  }
}

TEST(HttpPoster, WhatDoesNotFitTheQueueIsDropped) {
  HttpPosterOptions options = quick;
  options.most_queued_bytes = 100;
  options.linger_s = 0;
  HttpPoster poster(
      []() -> std::optional<HttpTarget> {
        std::this_thread::sleep_for(std::chrono::milliseconds(300));
        return std::nullopt;
      },
      "/events", options);
  poster.post("first");
  std::this_thread::sleep_for(std::chrono::milliseconds(100));  // the thread asks for the target now
  for (int i = 0; i < 50; ++i) poster.post("0123456789");
  EXPECT_EQ(poster.dropped(), 40u);
}

TEST(HttpPoster, AServerThatComesBackElsewhereIsFoundAgain) {
  auto server = std::make_unique<LoopbackServer>();
  std::mutex mutex;
  HttpTarget target = server->target();
  HttpPoster poster(
      [&]() -> std::optional<HttpTarget> {
        const std::lock_guard lock(mutex);
        return target;
      },
      "/events", quick);
  poster.post("before");
  ASSERT_TRUE(within(5, [&] { return poster.delivered() == 1; }));
  server.reset();
  poster.post("lost");
  ASSERT_TRUE(within(5, [&] { return poster.dropped() == 1; }));
  server = std::make_unique<LoopbackServer>();
  {
    const std::lock_guard lock(mutex);
    target = server->target();
  }
  ASSERT_TRUE(within(5, [&] {
    poster.post("after");
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
    return poster.delivered() > 1;
  }));
  EXPECT_EQ(server->lines().at(0), "after");
}

TEST(HttpPoster, AConnectionThatTheServerClosedIsOpenedAgain) {
  LoopbackServer server;
  server.close_after_each = true;
  HttpPoster poster([&] { return server.target(); }, "/events", quick);
  for (std::uint64_t i = 1; i <= 3; ++i) {
    poster.post("line");
    ASSERT_TRUE(within(5, [&] { return poster.delivered() == i; })) << i;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  EXPECT_EQ(poster.dropped(), 0u);
}

TEST(HttpPoster, ARefusalIsNoDelivery) {
  for (const char* answer : {"HTTP/1.1 401 Unauthorized\r\nContent-Length: 5\r\n\r\nwrong",
                             "HTTP/1.1 500 No\r\nConnection: close\r\n\r\n", "nonsense\r\n\r\n"}) {
    LoopbackServer server(answer);
    HttpPoster poster([&] { return server.target(); }, "/events", quick);
    poster.post("line");
    EXPECT_TRUE(within(5, [&] { return poster.dropped() == 1; })) << answer;
    EXPECT_EQ(poster.delivered(), 0u);
  }
}

}  // namespace
}  // namespace filo
