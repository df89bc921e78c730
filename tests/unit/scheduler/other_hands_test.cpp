// What `filo run` says of stages that others have in hand.
#include "scheduler/control/other_hands.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "scheduler/executors/slurm_submit.hpp"
#include "tests/unit/support/fake_slurm.hpp"
#include "workspace/server_file.hpp"

namespace filo {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

// Three stages that a cluster has.
class OtherHandsTest : public SlurmExecutorTest {
 protected:
  OtherHandsTest() {
    const std::string cluster = scratch.write("cluster.yaml", "name: test\nslurm_bin: " + bin.string() + "\n");
    std::filesystem::create_directories(workspace.experiment_folder("demo"));
    workspace.write_active({.name = "demo", .executor = "slurm", .cluster = cluster});
    SlurmExecutor slurm = executor();
    slurm.jobs();
    const auto wanted = requests(3);
    const auto claims = slurm.prepare(wanted);
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      const std::string& key = wanted[i].stage->key;
      workspace.write_claim(key, 1, claims[i]);
      statuses.push_back({.key = key, .state = StageState::running, .attempt = 1, .elsewhere = true});
    }
    slurm.start(wanted, claims);
  }

  // A line of what the queue holds, as squeue prints it.
  void queue(const std::string& job, const std::string& state, const std::string& reason, const std::string& name) {
    scratch.write("bin/queue",
                  text("queue") + job + "|N/A|" + state + "|0|0|1000|2000|" + reason + "||" + name + "|\n");
  }
  std::string news() { return testing::PrintToString(OtherHands(workspace).news(statuses)); }

  std::vector<StageStatus> statuses;
};

// Guards the user from waiting for nothing without knowing it.
TEST_F(OtherHandsTest, SaysThatNothingMovesThem) {
  const std::string batch = records()[0].stem().string();
  EXPECT_THAT(OtherHands(workspace).news(statuses),
              ElementsAre(AllOf(HasSubstr("3 stages are in the hands of slurm test (batch " + batch + ", job 100, "),
                                HasSubstr("3 "), HasSubstr("); nothing is known to move them"),
                                HasSubstr("filo reconcile --workspace " + workspace.root().string()),
                                HasSubstr("; filo cancel ends them there"))));
  workspace.remove_active("demo");
  EXPECT_THAT(news(), AllOf(HasSubstr("nothing moves them, since no active experiment is on this cluster"),
                            Not(HasSubstr("filo cancel"))));
}

TEST_F(OtherHandsTest, SaysWhatMovesThem) {
  queue("4712", "RUNNING", "None", watch_name(workspace, settings));
  queue("4713", "PENDING", "Dependency", watch_name(workspace, settings));
  EXPECT_THAT(news(), HasSubstr("; its watch, job 4712, moves them;"));
  {
    const ServerFile server(workspace, {.url = "http://login:8321", .events_secret = "", .certificate = ""});
    EXPECT_THAT(news(), HasSubstr("; filo serve at http://login:8321 moves them;"));
  }
  mode("down");
  EXPECT_THAT(news(), AllOf(HasSubstr("its watch moves them, if there is one, or filo reconcile, on a host where its "
                                      "queue can be asked (here: slurm: squeue: "),
                            Not(HasSubstr("nothing"))));
}

TEST_F(OtherHandsTest, TellsWhatTheQueueSays) {
  all_become("RUNNING");
  EXPECT_THAT(news(), HasSubstr(", 3 running); "));
  all_become("PENDING");
  std::string queued = text("queue");
  for (auto at = queued.find("None"); at != std::string::npos; at = queued.find("None"))
    queued.replace(at, 4, "Priority");
  scratch.write("bin/queue", queued);
  EXPECT_THAT(news(), HasSubstr(", 3 pending: Priority); "));
  scratch.write("bin/queue", "");
  EXPECT_THAT(news(), HasSubstr(", 3 no longer in the queue); "));
}

// Guards: once, and again when it is another thing, which fewer stages of the same are not; one question to the queue.
TEST_F(OtherHandsTest, SaysItOnce) {
  OtherHands others(workspace);
  const auto questions = [&] { return calls("squeue").size(); };
  const auto before = questions();
  EXPECT_EQ(others.news(statuses).size(), 1u);
  EXPECT_THAT(others.news(statuses), IsEmpty());
  statuses.pop_back();
  EXPECT_THAT(others.news(statuses), IsEmpty());
  EXPECT_EQ(questions(), before + 1);
  const ServerFile server(workspace, {.url = "http://login:8321", .events_secret = "", .certificate = ""});
  EXPECT_THAT(others.news(statuses), ElementsAre(HasSubstr("filo serve at http://login:8321 moves them")));
  EXPECT_THAT(others.news({}), IsEmpty());
}

TEST_F(OtherHandsTest, NamesAnotherProcess) {
  for (const auto& status : statuses)
    workspace.write_claim(status.key, 1, {{"executor", "local"}, {"host", "hall"}, {"pid", 4711}});
  statuses.resize(1);
  EXPECT_THAT(OtherHands(workspace).news(statuses),
              ElementsAre("1 stage is in the hands of process 4711 on hall, which moves them as long as it lives; filo "
                          "cancel ends them there, and filo run then starts them here"));
}

}  // namespace
}  // namespace filo
