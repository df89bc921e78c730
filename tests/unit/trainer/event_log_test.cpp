// events.jsonl keeps its sequence over restarts and torn lines.
#include "trainer/event_log.hpp"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

namespace filo {
namespace {

std::filesystem::path fresh_file(const std::string& name) {
  const std::filesystem::path path = std::filesystem::path(testing::TempDir()) / name;
  std::filesystem::remove(path);
  return path;
}

std::vector<Json> lines_of(const std::filesystem::path& path) {
  std::vector<Json> lines;
  std::istringstream text(read_file(path));
  for (std::string line; std::getline(text, line);) lines.push_back(Json::parse(line, nullptr, false));
  return lines;
}

TEST(EventLog, NumbersItsLinesWithoutGapsOverARestart) {
  const auto path = fresh_file("events-restart.jsonl");
  {
    EventLog log(path);
    log.write("started");
    log.write("step", {{"loss", 0.5}});
  }
  EventLog log(path);
  log.write("finished");
  const std::vector<Json> lines = lines_of(path);
  ASSERT_EQ(lines.size(), 3u);
  for (std::size_t i = 0; i < lines.size(); ++i) EXPECT_EQ(lines[i]["seq"], i);
  EXPECT_EQ(lines[1]["loss"], 0.5);
  EXPECT_EQ(lines[2]["event"], "finished");
  EXPECT_GT(lines[2]["time"].get<double>(), 1.6e9);
}

TEST(EventLog, EndsATornLineSoThatTheNextOneIsWhole) {
  const auto path = fresh_file("events-torn.jsonl");
  std::ofstream(path) << "{\"seq\":0,\"event\":\"started\"}\n{\"seq\":1,\"ev";
  EventLog log(path);
  log.write("finished");
  const std::vector<Json> lines = lines_of(path);
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_TRUE(lines[1].is_discarded());
  EXPECT_EQ(lines[2]["seq"], 2);
}

TEST(EventLog, OfOtherRanksWritesNothing) {
  EventLog log;
  log.write("started");  // must not throw, and has no file
}

}  // namespace
}  // namespace filo
