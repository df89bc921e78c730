// When a job counts as hung, and which rank is named: ranks on a made-up clock, which read each other's heartbeats.
#include "cluster/watchdog.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <map>
#include <set>
#include <thread>

#include "base/files.hpp"

namespace filo {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class Ranks {
 public:
  explicit Ranks(int count, double timeout_s = 60) {
    for (int rank = 0; rank < count; ++rank)
      ranks_.push_back(std::make_unique<Whereabouts>(rank, count, timeout_s, "n" + std::to_string(rank)));
  }

  // Until the first rank says that the job hangs, or the time is over; the set of `stopped` ranks do nothing at all.
  std::optional<std::pair<int, Hang>> pass(double seconds) {
    for (const double end = now + seconds; now < end; now += ranks_[0]->look_every_s())
      for (std::size_t rank = 0; rank < ranks_.size(); ++rank) {
        if (stopped.contains(static_cast<int>(rank))) continue;
        Whereabouts& one = *ranks_[rank];
        if (const auto hang = one.look(now)) return std::pair(static_cast<int>(rank), *hang);
        if (!files_answer) continue;
        if (const auto heartbeat = one.next_heartbeat()) {
          files[static_cast<int>(rank)] = *heartbeat;
          ++written;
        }
        if (!one.wants_heartbeats()) continue;
        for (std::size_t other = 0; other < ranks_.size(); ++other)
          if (other != rank) one.heard(static_cast<int>(other), files[static_cast<int>(other)]);
        one.heard_all();
        ++read;
      }
    return std::nullopt;
  }

  void all_at(const std::string& place) {
    for (auto& rank : ranks_) rank->at(place);
  }
  Whereabouts& operator[](std::size_t rank) { return *ranks_[rank]; }

  double now = 1e6;
  std::set<int> stopped;
  bool files_answer = true;
  std::map<int, std::string> files;
  int written = 0, read = 0;

 private:
  std::vector<std::unique_ptr<Whereabouts>> ranks_;
};

// Guards the cost of a job that gets on: a file now and then from each rank, and nobody reads.
TEST(Watchdog, AJobThatGetsOnReadsNothing) {
  Ranks ranks(2, 1800);
  for (int step = 0; step < 360; ++step) {
    EXPECT_FALSE(ranks.pass(10));
    ranks.all_at("step " + std::to_string(step));
  }
  EXPECT_EQ(ranks.read, 0);
  EXPECT_LE(ranks.written, 2 * (1 + 3600 / 10));
}

// Guards the timeout, and who is named: rank 1 is stopped, and rank 0 waits for it.
TEST(Watchdog, AStoppedRankIsNamedWithItsLastPlace) {
  for (const double timeout_s : {4.0, 60.0, 1800.0}) {
    Ranks ranks(3, timeout_s);
    ranks.all_at("step 1");
    EXPECT_FALSE(ranks.pass(timeout_s / 2));
    ranks.all_at("step 2");
    ranks.stopped = {1};
    const double since = ranks.now;
    const auto hang = ranks.pass(2 * timeout_s);
    ASSERT_TRUE(hang);
    EXPECT_EQ(hang->first, 0);
    EXPECT_GE(ranks.now - since, timeout_s - 0.5);
    EXPECT_LE(ranks.now - since, timeout_s + 2);
    EXPECT_EQ(hang->second.rank, 1);
    EXPECT_THAT(hang->second.message,
                AllOf(HasSubstr("last heard of: rank 1 (n1) at \"step "), HasSubstr("no sign of life"),
                      HasSubstr("; the others: rank 0 (n0) at \"step 2\", for"),
                      HasSubstr(", rank 2 (n2) at \"step 2\", for")));
    EXPECT_EQ(hang->second.node, "n1");
  }
}

// Guards the case in which the one that speaks first is the stopped one.
TEST(Watchdog, TheNextRankSpeaksWhereRankZeroIsStopped) {
  Ranks ranks(3);
  ranks.all_at("step 1");
  EXPECT_FALSE(ranks.pass(30));
  ranks.stopped = {0};
  const auto hang = ranks.pass(100);
  ASSERT_TRUE(hang);
  EXPECT_EQ(hang->first, 1);
  EXPECT_LE(ranks.now - 1e6, 60 + 2);
  EXPECT_EQ(hang->second.rank, 0);
  EXPECT_THAT(hang->second.message, HasSubstr("last heard of: rank 0 (n0) at \"step 1\""));
}

// Guards a rank that lives, and does not come out of where it is: a GPU, a loop, a lock.
TEST(Watchdog, TheRankThatCameLeastFarIsNamed) {
  Ranks ranks(3);
  ranks.all_at("step 1: backward");
  ranks[0].at("step 1: sum");
  ranks[2].at("step 1: sum");
  const auto hang = ranks.pass(100);
  ASSERT_TRUE(hang);
  EXPECT_EQ(hang->second.rank, 1);
  EXPECT_THAT(hang->second.message, AllOf(HasSubstr("last heard of: rank 1 (n1) at \"step 1: backward\", for "),
                                          Not(HasSubstr("no sign of life"))));
}

// Guards long waits for one rank that works: none of its places is older than the timeout.
TEST(Watchdog, RanksMayWaitLongForOneThatGetsOn) {
  Ranks ranks(2);
  ranks.all_at("start");
  for (int file = 0; file < 20; ++file) {
    ranks[0].at("file " + std::to_string(file));
    EXPECT_FALSE(ranks.pass(50));
  }
}

// Guards a job that was stopped as a whole (scontrol suspend, a sleeping machine), or a rank that is continued in time.
TEST(Watchdog, TimeInWhichARankWasStoppedDoesNotCount) {
  Ranks ranks(2);
  ranks.all_at("step 1");
  EXPECT_FALSE(ranks.pass(50));
  ranks.now += 100000;
  EXPECT_FALSE(ranks.pass(5));
  ranks.all_at("step 2");
  ranks.stopped = {1};
  EXPECT_FALSE(ranks.pass(55));
  ranks.stopped = {};
  ranks.all_at("step 3");
  EXPECT_FALSE(ranks.pass(55));
}

// Guards a file server that is gone: nobody's heartbeats come, and that is what is told.
TEST(Watchdog, AFileSystemThatDoesNotAnswerIsNamed) {
  Ranks ranks(2);
  ranks.files_answer = false;
  ranks.all_at("step 1");
  const auto hang = ranks.pass(100);
  ASSERT_TRUE(hang);
  EXPECT_EQ(hang->second.rank, 0);
  EXPECT_THAT(hang->second.message, HasSubstr("the file system of the workspace does not answer"));
}

// Guards files that are half there or of anything else.
TEST(Watchdog, WhatIsNoHeartbeatIsASilentRank) {
  for (const char* text : {"", "{", "[]", "{\"places\": \"x\"}", "\xff\xfe"}) {
    Whereabouts one(0, 2, 60, "");
    one.at("step 1");
    std::optional<Hang> hang;
    for (double now = 0; now < 70 && !hang; now += one.look_every_s()) {
      hang = one.look(now);
      one.heard(1, text);
      one.heard_all();
    }
    ASSERT_TRUE(hang);
    EXPECT_THAT(hang->message, HasSubstr("last heard of: rank 1 was never heard of"));
  }
}

// Guards a rank alone, and the threads around all this.
TEST(Watchdog, EndsAProcessThatDoesNotGetOn) {
  std::atomic<int> ends = 0;
  std::string told;
  Watchdog watchdog;
  watchdog.at("before it was started");
  watchdog.start({.timeout_s = 0.5,
                  .heartbeat_file = [](int) { return std::filesystem::path("/nowhere/heartbeat"); },
                  .report = [&](const Hang& hang) { told = hang.message; },
                  .end = [&] { ++ends; }});
  for (int i = 0; i < 10; ++i) {
    watchdog.at("step " + std::to_string(i));
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  EXPECT_EQ(ends, 0);
  while (ends == 0) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_THAT(told, StartsWith("the job hangs: no rank has come further for 0 s; last heard of: rank 0 at \"step 9\""));
}

TEST(Watchdog, WithoutATimeoutNobodyWatches) {
  Watchdog watchdog;
  watchdog.start({.end = [] { FAIL(); }});
  watchdog.at("step 1");
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
}

}  // namespace
}  // namespace filo
