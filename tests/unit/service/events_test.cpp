#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "service/event_hub.hpp"
#include "service/event_streams.hpp"
#include "tests/unit/support/scratch.hpp"

namespace filo::service {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::string stage = "0123456789abcdef";

std::string event_text(int sequence, const std::string& event = "step") {
  return Json{{"seq", sequence}, {"event", event}, {"epoch", 1},       {"epochs", 2},
              {"epoch_step", 1}, {"steps", 4},     {"step", sequence}, {"loss", 0.5}}
      .dump();
}
EventLine line(int attempt, int sequence) { return {attempt, sequence, event_text(sequence)}; }

// A workspace with attempts of one stage whose events the test writes.
struct Events {
  Events() { add_attempt(1); }
  void add_attempt(int attempt) { std::filesystem::create_directories(workspace.attempt_folder(stage, attempt)); }
  void write(int attempt, const std::string& text) const {
    std::ofstream(workspace.events_file(stage, attempt), std::ios::app | std::ios::binary) << text;
  }
  void write(int attempt, int first, int last) const {
    for (int i = first; i <= last; ++i) write(attempt, event_text(i) + "\n");
  }
  std::shared_ptr<http::EventSource> follow(EventPosition position = {}) {
    auto source = stage_events(workspace, hub, stage, position);
    source->on_wake([this] { ++wakes; });
    return source;
  }
  Scratch scratch;
  Workspace workspace = scratch.workspace();
  EventHub hub;
  std::atomic<int> wakes{0};
};

std::vector<std::string> ids(const std::string& text) {
  std::vector<std::string> found;
  for (std::size_t at = text.find("id: "); at != std::string::npos; at = text.find("id: ", at + 1))
    found.push_back(text.substr(at + 4, text.find('\n', at) - at - 4));
  return found;
}

TEST(HttpEvents, ALineIsAnObjectWithEventAndSequence) {
  EXPECT_EQ(parse_event_line(R"({"seq": 3, "event": "step"})", 2)->sequence, 3);
  for (const char* bad :
       {"", "x", "[]", "{}", R"({"seq": 1})", R"({"event": "step"})", R"({"seq": -1, "event": "step"})",
        R"({"seq": 1.5, "event": "step"})", R"({"seq": "1", "event": "step"})", R"({"seq": 1, "event": 2})",
        R"({"seq": 99999999999999999999, "event": "step"})", "{\"seq\": 1, \"event\": \"\xff\"}"})
    EXPECT_FALSE(parse_event_line(bad, 1)) << bad;
}

// Guards against counting a line twice that a worker posted and its file shows too.
TEST(HttpEvents, WhatCameByAnyWayBeforeIsLeftOut) {
  EventHub hub;
  EXPECT_EQ(hub.accept(stage, {line(1, 0), line(1, 1)}, EventHub::Source::post), 2u);
  EXPECT_EQ(hub.accept(stage, {line(1, 0), line(1, 1), line(1, 2)}, EventHub::Source::file), 1u);
  EXPECT_EQ(hub.accept(stage, {line(1, 2)}, EventHub::Source::post), 0u);
  EXPECT_EQ(hub.accept(stage, {line(2, 0)}, EventHub::Source::post), 1u) << "a new attempt counts from 0 again";
  EXPECT_EQ(hub.accept(stage, {line(1, 9)}, EventHub::Source::post), 0u) << "an older attempt is out of the race";
  EXPECT_EQ(hub.counters().duplicates, 4u);
  EXPECT_EQ(hub.latest(stage)->attempt, 2);
}

TEST(HttpEvents, ProgressIsPutIntoWordsAndAnnounced) {
  EventHub hub;
  hub.accept(stage, {line(1, 0), line(1, 1)}, EventHub::Source::post);
  EXPECT_THAT(hub.latest(stage)->text, HasSubstr("loss 0.5"));
  EXPECT_DOUBLE_EQ(hub.latest(stage)->done, 0.125);
  hub.announce_progress(10);
  const auto announced = hub.announced_after(0);
  ASSERT_EQ(announced.messages.size(), 1u);
  EXPECT_EQ(Json::parse(announced.messages[0].second)["stages"][0]["stage"], stage);
  hub.announce_progress(10);
  EXPECT_EQ(hub.announced_after(0).messages.size(), 1u) << "nothing new, nothing said";
}

TEST(HttpEvents, WhatDoesNotRunAnyMoreIsForgotten) {
  EventHub hub;
  hub.accept(stage, {line(1, 0)}, EventHub::Source::post);
  hub.accept("fedcba9876543210", {line(1, 0)}, EventHub::Source::post);
  hub.keep_only([](const std::string& key) { return key == stage; });
  EXPECT_EQ(hub.stages(), 1u);
}

// Guards memory: however much is announced, only so much is kept, and whoever missed some is told.
TEST(HttpEvents, AnnouncementsAreBounded) {
  EventHub hub;
  for (int i = 0; i < 3000; ++i) hub.announce({{"event", "stages"}, {"i", i}});
  EXPECT_LE(hub.announced_after(2000).messages.size(), 1000u);
  EXPECT_TRUE(hub.announced_after(2500).complete);
  EXPECT_FALSE(hub.announced_after(10).complete);
  const auto source = workspace_events(hub, hub.epoch() + "-10");
  source->on_wake([] {});
  EXPECT_THAT(source->next(), HasSubstr("\"reset\""));
  EXPECT_EQ(source->next(), "");
}

TEST(HttpEvents, TheWorkspaceStreamGoesOnWhereItWasLeft) {
  EventHub hub;
  hub.announce({{"event", "stages"}, {"i", 1}});
  const auto first = workspace_events(hub, "");
  first->on_wake([] {});
  const std::string begin = first->next();
  EXPECT_THAT(begin, HasSubstr("ready"));
  EXPECT_THAT(begin, ::testing::Not(HasSubstr("\"i\":1"))) << "what was before is no news";
  const std::string last = ids(begin).back();
  hub.announce({{"event", "stages"}, {"i", 2}});
  const auto second = workspace_events(hub, last);
  second->on_wake([] {});
  EXPECT_THAT(second->next(), HasSubstr("\"i\":2"));
  const auto stranger = workspace_events(hub, "another-server-7");
  stranger->on_wake([] {});
  EXPECT_THAT(stranger->next(), HasSubstr("\"reset\""));
}

TEST(HttpEvents, AStageStreamReadsItsFileFromWhereTheClientStood) {
  Events events;
  events.write(1, 0, 5);
  EXPECT_THAT(ids(events.follow()->next()), ElementsAre("1-0", "1-1", "1-2", "1-3", "1-4", "1-5"));
  const auto source = events.follow({1, 3});
  EXPECT_THAT(ids(source->next()), ElementsAre("1-4", "1-5"));
  events.write(1, 6, 6);
  EXPECT_THAT(ids(source->next()), ElementsAre("1-6"));
  EXPECT_EQ(source->next(), "");
}

TEST(HttpEvents, ATornOrForeignLineIsLeftOut) {
  Events events;
  events.write(1, event_text(0) + "\nnot json\n" + event_text(2) + "\n" + event_text(3).substr(0, 20));
  const auto source = events.follow();
  EXPECT_THAT(ids(source->next()), ElementsAre("1-0", "1-2"));
  events.write(1, event_text(3).substr(20) + "\n");
  EXPECT_THAT(ids(source->next()), ElementsAre("1-3"));
}

// Guards memory: a line without an end is not kept for ever.
TEST(HttpEvents, ALineOfMoreThanAMebibyteIsSkipped) {
  Events events;
  events.write(1, event_text(0) + "\n");
  events.write(1, std::string(3 << 20, 'x'));
  const auto source = events.follow();
  EXPECT_THAT(ids(source->next()), ElementsAre("1-0"));
  for (int i = 0; i < 20; ++i) EXPECT_EQ(source->next(), "");
  events.write(1, "\n" + event_text(1) + "\n");
  EXPECT_THAT(ids(source->next()), ElementsAre("1-1"));
}

// A worker on another machine posts; the file system shows its line later.
TEST(HttpEvents, APostedEventIsSeenBeforeItsFileAndNotAgainAfterwards) {
  Events events;
  events.write(1, 0, 1);
  const auto source = events.follow();
  EXPECT_THAT(ids(source->next()), ElementsAre("1-0", "1-1"));
  events.hub.accept(stage, {line(1, 2)}, EventHub::Source::post);
  EXPECT_EQ(events.wakes, 1);
  EXPECT_THAT(ids(source->next()), ElementsAre("1-2"));
  events.write(1, 2, 3);
  EXPECT_THAT(ids(source->next()), ElementsAre("1-3"));
}

// Guards order: what was posted waits for what lies between it and the file's end.
TEST(HttpEvents, APostedEventWaitsForThoseBeforeIt) {
  Events events;
  events.write(1, 0, 0);
  const auto source = events.follow();
  source->next();
  events.hub.accept(stage, {line(1, 3)}, EventHub::Source::post);
  EXPECT_EQ(source->next(), "");
  events.write(1, 1, 2);
  EXPECT_THAT(ids(source->next()), ElementsAre("1-1", "1-2", "1-3"));
}

TEST(HttpEvents, AStageStreamGoesOnWithTheNextAttempt) {
  Events events;
  events.write(1, 0, 1);
  events.add_attempt(2);
  events.write(2, 0, 0);
  const auto source = events.follow({1, 0});
  EXPECT_THAT(ids(source->next()), ElementsAre("1-1"));
  EXPECT_THAT(ids(source->next()), ElementsAre("2-0"));
  EXPECT_THAT(ids(events.follow()->next()), ElementsAre("2-0")) << "without a position: the newest attempt";
}

TEST(HttpEvents, IdsAreReadBack) {
  EXPECT_EQ(parse_event_id("3-17")->sequence, 17);
  EXPECT_EQ(parse_event_id(event_id({2, -1}))->attempt, 2);
  for (const char* bad : {"", "3", "-", "0-1", "-1-1", "3-", "3-x", "3-1-", "x-1", "3 1"})
    EXPECT_FALSE(parse_event_id(bad)) << bad;
}

TEST(HttpEvents, AFileIsTakenUpNearItsEnd) {
  Events events;
  events.write(1, 0, 99);
  EventReader file(events.workspace.events_file(stage, 1), 1);
  file.start_near_end(500);
  const auto lines = file.read_lines();
  ASSERT_FALSE(lines.empty());
  EXPECT_LT(lines.size(), 6u);
  EXPECT_EQ(lines.back().sequence, 99);
}

}  // namespace
}  // namespace filo::service
