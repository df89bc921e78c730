#include "base/http_poster.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <mutex>
#include <thread>

#include "tests/unit/support/loopback_server.hpp"

namespace filo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Clock = std::chrono::steady_clock;

HttpTarget target_of(const LoopbackServer& server) { return {server.url(), "the-token", ""}; }

// Of all the bodies.
std::vector<std::string> lines_of(const LoopbackServer& server) {
  std::vector<std::string> lines;
  for (const auto& request : server.requests())
    for (std::size_t start = 0, stop; (stop = request.body.find('\n', start)) != std::string::npos; start = stop + 1)
      lines.push_back(request.body.substr(start, stop - start));
  return lines;
}

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
    HttpPoster poster([&] { return target_of(server); }, "/events", quick);
    poster.post("one");
    ASSERT_TRUE(within(5, [&] { return lines_of(server).size() == 1; }));
    poster.post("two");
    poster.post("three");
  }  // what is queued still goes out
  EXPECT_THAT(lines_of(server), ElementsAre("one", "two", "three"));
  EXPECT_EQ(server.connections(), 1);
  EXPECT_THAT(server.requests().back().head, HasSubstr("POST /events HTTP/1.1\r\n"));
  EXPECT_THAT(server.requests().back().head, HasSubstr("\r\nAuthorization: Bearer the-token"));
}

// Guards the stage: nobody there, or a server that takes connections and says nothing, costs the caller nothing.
TEST(HttpPoster, AServerThatIsAwayCostsNothing) {
  LoopbackServer mute;
  mute.silent = true;
  for (const HttpTarget& target :
       {HttpTarget{"http://127.0.0.1:1", "t", ""}, target_of(mute), HttpTarget{"nonsense", "t", ""}}) {
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
  HttpTarget target = target_of(*server);
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
    target = target_of(*server);
  }
  ASSERT_TRUE(within(5, [&] {
    poster.post("after");
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
    return poster.delivered() > 1;
  }));
  EXPECT_EQ(lines_of(*server).at(0), "after");
}

TEST(HttpPoster, AConnectionThatTheServerClosedIsOpenedAgain) {
  LoopbackServer server;
  server.close_after_each = true;
  HttpPoster poster([&] { return target_of(server); }, "/events", quick);
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
    LoopbackServer server{std::string(answer)};
    HttpPoster poster([&] { return target_of(server); }, "/events", quick);
    poster.post("line");
    EXPECT_TRUE(within(5, [&] { return poster.dropped() == 1; })) << answer;
    EXPECT_EQ(poster.delivered(), 0u);
  }
}

}  // namespace
}  // namespace filo
