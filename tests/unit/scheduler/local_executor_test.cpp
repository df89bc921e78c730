#include "scheduler/executors/local_executor.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <sstream>
#include <thread>

#include "scheduler/control/run.hpp"
#include "settings/resources.hpp"
#include "tests/unit/support/scratch.hpp"
#include "workspace/claim.hpp"
#include "workspace/run_file.hpp"

namespace filo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Scripts in place of mpirun (runs one copy) and filo-worker (its `body` sees $kind, $stage (folder), $key, $attempt).
class LocalRun : public ::testing::Test {
 protected:
  LocalRun()
      : workspace((scratch.add_all(), scratch.workspace())),
        plan(make_plan(scratch.experiment("resources: {ranks: 1}\n"), workspace)) {
    save_plan(plan, workspace);
    mpirun = script("mpirun", "while [ \"${1##*/}\" != filo-worker ]; do shift; done\nexec \"$@\"\n");
  }

  std::string script(const std::string& name, const std::string& text) const {
    const std::string path = scratch.write(name, "#!/bin/bash\n" + text);
    std::filesystem::permissions(path, std::filesystem::perms::owner_all);
    return path;
  }

  LocalExecutor executor(const std::string& body) const {
    return LocalExecutor(workspace,
                         script("filo-worker",
                                "kind=$1; shift\n"
                                "while [ $# -gt 0 ]; do case $1 in --workspace) workspace=$2;; --stage) key=$2;;"
                                " --attempt) attempt=$2;; --threads) threads=$2;; esac; shift 2; done\n"
                                "stage=$workspace/stages/$key\n"
                                "finish() { echo \"{\\\"stage\\\":\\\"$key\\\",\\\"kind\\\":\\\"$kind\\\","
                                "\\\"attempt\\\":$attempt,\\\"seconds\\\":1,\\\"metrics\\\":{}}\" > $stage/.r;"
                                " mv $stage/.r $stage/result.json; }\n" +
                                    body),
                         LocalCapacity{.cores = 2, .memory_bytes = 1ull << 40, .gpus = {}}, mpirun);
  }

  std::vector<StageStatus> run(LocalExecutor& local, const RunOptions& options = {}) {
    RunProgress progress(workspace, plan, out, false);
    return run_plan(workspace, plan, local, progress, options);
  }

  Scratch scratch;
  Workspace workspace;
  Plan plan;
  std::string mpirun;
  std::ostringstream out;
};

TEST_F(LocalRun, RunsAPlanToItsEnd) {
  LocalExecutor local = executor(
      "echo '{\"seq\":0,\"event\":\"progress\",\"done\":2,\"total\":2,\"unit\":\"images\"}' > "
      "$stage/attempts/$attempt/events.jsonl\n"
      "echo \"$OMP_NUM_THREADS $threads\"; finish\n");
  EXPECT_TRUE(all_done(run(local)));
  EXPECT_THAT(out.str(), HasSubstr("[6/6] evaluate"));
  EXPECT_THAT(out.str(), HasSubstr("done in 1.0 s"));
  EXPECT_EQ(workspace.log_tail(plan.stages[0].key, 1, 5), "1 1");
}

// Guards: who looks from outside sees the run, and those who look after active experiments do not take it over.
TEST_F(LocalRun, IsSeenWhileItRuns) {
  LocalExecutor local = executor("finish\n");
  std::size_t seen = 0;
  CoordinatorOptions looking;
  looking.at_point = [&](std::string_view) {
    seen = std::max(seen, living_runs(workspace, plan.name).size());
    EXPECT_TRUE(workspace.active_experiments().empty());
  };
  EXPECT_TRUE(all_done(run(local, {.coordinator = looking})));
  EXPECT_EQ(seen, 1u);
  EXPECT_TRUE(living_runs(workspace, plan.name).empty());
}

// Guards: a run that waits for others says for whom, once, and what moves them.
TEST_F(LocalRun, SaysWhatOthersHaveInHand) {
  const std::string stage = plan.stages[0].key;
  workspace.make_attempt(stage);
  workspace.write_claim(stage, 1, {{"executor", "slurm hall-2"}, {"batch", "filo-3f9c2a"}, {"index", 0}});
  LocalExecutor local = executor("finish\n");
  const auto begun = std::chrono::steady_clock::now();
  run(local, {.stop = [&] { return std::chrono::steady_clock::now() - begun > std::chrono::seconds(3); }});
  const std::string line = "1 stage is in the hands of slurm hall-2 (batch filo-3f9c2a); nothing moves them, since no";
  ASSERT_THAT(out.str(), HasSubstr(line));
  EXPECT_EQ(out.str().find(line), out.str().rfind(line)) << out.str();
}

// Guards: a failure shows its reason and the end of the log, and the run ends.
TEST_F(LocalRun, ShowsWhyAStageFailed) {
  LocalExecutor local = executor("[ $kind = train ] && { echo out of luck >&2; exit 3; }; finish\n");
  const auto statuses = run(local);
  EXPECT_TRUE(is_settled(statuses));
  EXPECT_FALSE(all_done(statuses));
  EXPECT_THAT(out.str(), HasSubstr("attempt 3 failed: exit code 3"));
  EXPECT_THAT(out.str(), HasSubstr("    out of luck"));
  EXPECT_THAT(out.str(), HasSubstr("blocked: needs train parts"));
}

// Guards: a worker that stops early on its own is started again.
TEST_F(LocalRun, GoesOnAfterExit75) {
  LocalExecutor local = executor("[ $attempt -lt 3 ] && exit 75; finish\n");
  EXPECT_TRUE(all_done(run(local)));
  EXPECT_EQ(workspace.newest_attempt(plan.stages[0].key), 3);
  EXPECT_EQ(workspace.outcome(plan.stages[0].key, 1)->outcome, "stopped");
}

// Guards: a stop reaches the workers, their snapshot is waited for, and none of it counts as a failure.
TEST_F(LocalRun, StopWaitsForTheSnapshot) {
  LocalExecutor local = executor(
      "trap 'sleep 0.2; echo saved > $stage/snapshot; exit 75' USR2\ntouch $stage/ready\nwhile true; do sleep 0.01; "
      "done\n");
  const auto statuses = run(local, {.stop = [&] {
                              return std::filesystem::exists(workspace.stage_folder(plan.stages[0].key) / "ready") &&
                                     std::filesystem::exists(workspace.stage_folder(plan.stages[2].key) / "ready");
                            }});
  EXPECT_FALSE(is_settled(statuses));
  for (const int running : {0, 2}) {
    EXPECT_TRUE(std::filesystem::exists(workspace.stage_folder(plan.stages[running].key) / "snapshot"));
    EXPECT_EQ(workspace.outcome(plan.stages[running].key, 1)->outcome, "stopped");
  }
}

// Guards: one that does not heed the stop is ended after the grace period.
TEST_F(LocalRun, StopEndsTheDeaf) {
  LocalExecutor local = executor("trap '' USR2\ntouch $stage/ready\nwhile true; do sleep 0.01; done\n");
  const auto ready = workspace.stage_folder(plan.stages[0].key) / "ready";
  EXPECT_FALSE(is_settled(run(local, {.stop = [&] { return std::filesystem::exists(ready); }, .grace_s = 0.2})));
}

// Guards: kill -9 of filo takes its workers with it, and the next run starts each stage anew, once.
TEST_F(LocalRun, AKilledRunLeavesNoWorkerAndIsTakenOver) {
  const std::string stage = plan.stages[0].key;
  const auto pid_file = workspace.stage_folder(stage) / "pid";
  const pid_t child = fork();
  if (child == 0) {
    LocalExecutor local = executor("echo $$ > $stage/pid.new; mv $stage/pid.new $stage/pid; sleep 60\n");
    run(local);
    _exit(0);
  }
  for (int i = 0; i < 500 && !std::filesystem::exists(pid_file); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  const pid_t worker = std::stoi(read_file(pid_file));
  {  // while it lives, its stage is left alone
    LocalExecutor second = executor("finish\n");
    const auto statuses = reconcile(workspace, plan, second, {});
    EXPECT_THAT(statuses[0].reason, HasSubstr("run by"));
    EXPECT_EQ(workspace.newest_attempt(stage), 1);
  }
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  for (int i = 0; i < 500 && kill(worker, 0) == 0; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_NE(kill(worker, 0), 0) << "the worker outlived the run";

  LocalExecutor local = executor("finish\n");
  EXPECT_TRUE(all_done(run(local)));
  EXPECT_EQ(workspace.outcome(stage, 1)->outcome, "lost");
  EXPECT_EQ(workspace.newest_attempt(stage), 2);
}

// Guards: a rank that outlived its mpirun is ended before its stage is started again.
TEST_F(LocalRun, EndsWhatAnEarlierAttemptLeft) {
  const std::string worker = script("earlier/filo-worker", "read -t 60 <> <(:)\n");  // with no child of its own
  Process left(
      {.arguments = {worker, "features", "--workspace", workspace.root().string(), "--stage", plan.stages[0].key},
       .environment = {},
       .output_file = std::nullopt,
       .die_with_parent = true});
  workspace.make_attempt(plan.stages[0].key);
  LocalExecutor local = executor("finish\n");
  EXPECT_TRUE(all_done(run(local)));
  EXPECT_EQ(left.wait().signal, SIGKILL);
}

// Guards resources.time, here as on a cluster: a stage has time to write a snapshot, and ends when it does not.
TEST_F(LocalRun, EndsWhatTakesLongerThanItsTime) {
  for (auto& stage : plan.stages) stage.resources.time = "00:00:02";
  plan.stages[0].resources.attempts.timeouts = 1;
  LocalExecutor deaf = executor("[ $key = " + plan.stages[0].key +
                                " ] || { finish; exit; }; trap '' USR2; while :; do read -t 1 <> <(:); done\n");
  const auto statuses = run(deaf);
  EXPECT_EQ(statuses[0].state, StageState::failed);
  EXPECT_THAT(statuses[0].reason, HasSubstr("ran longer than its time of 00:00:02"));
}

// Guards an mpirun that waits for ever for ranks that are gone: the attempt is lost, and the next one does the work.
TEST_F(LocalRun, EndsAnMpirunWithoutRanks) {
  mpirun = script("mpirun", "while [ \"${1##*/}\" != filo-worker ]; do shift; done\n\"$@\"\n[ -e " +
                                (scratch.workspace().root() / "once").string() + " ] || { touch " +
                                (scratch.workspace().root() / "once").string() + "; read -t 60 <> <(:); }\n");
  LocalExecutor local = executor("[ $attempt = 1 ] && { read -t 2 <> <(:); exit 1; }; finish\n");
  plan.stages.resize(1);
  const auto statuses = run(local);
  EXPECT_TRUE(all_done(statuses));
  EXPECT_EQ(workspace.outcome(plan.stages[0].key, 1)->outcome, "lost");
}

// Guards what takes days: the default time, which nobody asked for, ends nothing here.
TEST_F(LocalRun, TheDefaultTimeIsNoLimit) {
  ASSERT_EQ(plan.stages[0].resources.time, ResourceSettings().time);
  PlannedStage stage = plan.stages[0];
  LocalExecutor local = executor("read -t 60 <> <(:)\n");
  const auto ended_of = [&](const std::string& time) {
    stage.resources.time = time;
    const std::vector<StartRequest> requests = {{&stage, workspace.make_attempt(stage.key), stage.resources}};
    local.start(requests, local.prepare(requests));
    for (int i = 0; i < 30 && local.children().ended == 0; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    return local.children().ended;
  };
  EXPECT_EQ(ended_of(ResourceSettings().time), 0u);
  EXPECT_EQ(ended_of("00:00:01"), 1u);
}

TEST_F(LocalRun, WarnsWhatIsNearTheEndOfItsTime) {
  for (auto& stage : plan.stages) stage.resources.time = "00:00:02";
  LocalExecutor local =
      executor("[ $key$attempt = " + plan.stages[0].key +
               "1 ] || { finish; exit; }; trap 'exit 75' USR2; while :; do read -t 0.1 <> <(:); done\n");
  const auto statuses = run(local);
  EXPECT_TRUE(all_done(statuses));
  EXPECT_EQ(workspace.outcome(plan.stages[0].key, 1)->outcome, "stopped");
}

TEST_F(LocalRun, AMissingProgramIsAReason) {
  LocalExecutor local(workspace, "/nowhere/filo-worker",
                      LocalCapacity{.cores = 2, .memory_bytes = 1ull << 40, .gpus = {}}, "/nowhere/mpirun");
  const auto statuses = run(local);
  EXPECT_EQ(statuses[0].state, StageState::failed);
  EXPECT_THAT(statuses[0].reason, HasSubstr("/nowhere/mpirun: cannot be started"));
}

// Guards: slots by cores and memory; what is larger than the machine runs alone.
TEST_F(LocalRun, HasRoomByCoresAndMemory) {
  LocalExecutor local = executor("sleep 60\n");
  const ResourceSettings small{.ranks = 1, .threads = 1, .gpus = 0, .memory = "1G", .time = "01:00:00"};
  ResourceSettings large = small;
  large.ranks = 64;
  EXPECT_TRUE(local.reserve(large));
  PlannedStage stage = plan.stages[0];
  stage.resources = small;
  const std::vector<StartRequest> requests = {{&stage, workspace.make_attempt(stage.key), stage.resources}};
  local.start(requests, local.prepare(requests));
  EXPECT_TRUE(local.reserve(small));
  EXPECT_FALSE(local.reserve(large));
  ResourceSettings hungry = small;
  hungry.memory = "2T";
  EXPECT_FALSE(local.reserve(hungry));
}

// Guards: stages that run side by side see different GPUs, and those of one that has ended are free again.
TEST_F(LocalRun, GivesEachStageGpusOfItsOwn) {
  const std::string worker = script("filo-worker", "echo \"gpus $CUDA_VISIBLE_DEVICES\"; exec sleep 60\n");
  LocalExecutor local(workspace, worker, {.cores = 8, .memory_bytes = 1ull << 40, .gpus = {"2", "5", "6", "7"}},
                      mpirun);
  const auto start = [&](std::size_t at, int ranks) {
    PlannedStage stage = plan.stages[at];
    stage.resources = {.ranks = ranks, .threads = 1, .gpus = 1, .memory = "1G", .time = "01:00:00"};
    if (!local.reserve(stage.resources)) return std::string("no room");
    const std::vector<StartRequest> requests = {{&stage, workspace.make_attempt(stage.key), stage.resources}};
    local.start(requests, local.prepare(requests));
    std::string log;
    for (int i = 0; i < 500 && (log = workspace.log_tail(stage.key, requests[0].attempt, 1)).empty(); ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    return log;
  };
  EXPECT_EQ(start(0, 2), "gpus 2,5");
  EXPECT_EQ(start(1, 1), "gpus 6");
  EXPECT_EQ(start(2, 2), "no room");
  local.kill(plan.stages[0].key, 1);
  for (int i = 0; i < 500 && !local.reserve({.ranks = 3, .threads = 1, .gpus = 1, .memory = "1G", .time = "01:00:00"});
       ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  local.jobs();
  EXPECT_EQ(start(2, 2), "gpus 2,5");
}

// Guards: two runs on one machine share its cores, memory and GPUs, whatever experiments they run; one that was killed
// takes no room.
TEST_F(LocalRun, LeavesRoomToWhatOtherProcessesRun) {
  const std::string worker =
      script("filo-worker", "touch " + (scratch.folder / "ready").string() + "; exec sleep 60\n");
  const LocalCapacity machine{.cores = 4, .memory_bytes = 8ull << 30, .gpus = {"0", "1"}};
  const ResourceSettings most{.ranks = 1, .threads = 3, .gpus = 1, .memory = "1G", .time = "01:00:00"};
  const ResourceSettings one{.ranks = 1, .threads = 1, .gpus = 1, .memory = "1G", .time = "01:00:00"};
  const std::vector<StartRequest> requests = {{&plan.stages[0], workspace.make_attempt(plan.stages[0].key), most}};
  const pid_t child = fork();
  if (child == 0) {
    LocalExecutor other(workspace, worker, machine, mpirun);
    other.start(requests, other.prepare(requests));
    while (true) pause();
  }
  const auto published = [&] {
    std::error_code error;
    return std::distance(std::filesystem::directory_iterator(workspace.root() / "local", error), {});
  };
  for (int i = 0; i < 500 && (published() == 0 || !std::filesystem::exists(scratch.folder / "ready")); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  LocalExecutor local(workspace, worker, machine, mpirun);
  EXPECT_EQ(local.prepare(requests)[0]["gpus"], Json({"0"})) << "it has not looked yet";
  EXPECT_TRUE(local.jobs().empty());
  EXPECT_EQ(local.prepare(requests)[0]["gpus"], Json({"1"}));
  EXPECT_TRUE(local.reserve(one));
  EXPECT_FALSE(local.reserve(one)) << "the cores are taken";
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  for (int i = 0; i < 10; ++i) local.jobs();
  EXPECT_EQ(published(), 1) << "jobs() alone reads what others run";
  EXPECT_EQ(local.prepare(requests)[0]["gpus"], Json({"0"}));
  EXPECT_TRUE(local.reserve(most));
  EXPECT_TRUE(local.reserve(one));
  EXPECT_EQ(published(), 0);
}

// Guards: what the user or the batch system hides stays hidden.
TEST(Capacity, GpusAreThoseThatCudaSees) {
  const auto with = [](const char* visible) {
    setenv("CUDA_VISIBLE_DEVICES", visible, 1);
    const auto gpus = this_machine().gpus;
    unsetenv("CUDA_VISIBLE_DEVICES");
    return gpus;
  };
  EXPECT_THAT(with("1,GPU-8932f937,-1,3"), ElementsAre("1", "GPU-8932f937"));
  EXPECT_THAT(with(""), IsEmpty());
}

TEST(Resources, ReadsMemoryUnits) {
  EXPECT_EQ(memory_in_bytes("4G"), 4ull << 30);
  EXPECT_EQ(memory_in_bytes("512M"), 512ull << 20);
  EXPECT_EQ(memory_in_bytes("8K"), 8ull << 10);
}

// Guards: a pid that was reused, another boot and an old foreign claim are all dead; of a cluster's nothing is known.
TEST(Claims, HoldWhileTheirProcessLives) {
  const auto holds = [](const Json& claim, double age_s) { return claim_holds(claim, [=] { return age_s; }); };
  Json claim = process_claim();
  EXPECT_TRUE(holds(claim, 1e6));
  claim["process_started"] = "1";
  EXPECT_FALSE(holds(claim, 0));
  claim = process_claim();
  claim["boot"] = "another";
  EXPECT_FALSE(holds(claim, 0));
  claim["host"] = "another";
  EXPECT_TRUE(holds(claim, 5));
  EXPECT_FALSE(holds(claim, 500));
  EXPECT_FALSE(holds(Json::object(), 500));
  EXPECT_TRUE(holds({{"executor", "slurm c"}}, 500));
}

// Guards: whatever its process waits for, other hosts see that it lives.
TEST(Claims, AreTouchedWhileTheyAreKept) {
  const Scratch scratch;
  const std::filesystem::path file = scratch.write("claim.json", "{}");
  const auto old = std::filesystem::file_time_type::clock::now() - std::chrono::hours(1);
  const auto is_touched = [&] {
    std::filesystem::last_write_time(file, old);
    for (int i = 0; i < 100 && std::filesystem::last_write_time(file) == old; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    return std::filesystem::last_write_time(file) != old;
  };
  Heartbeat heartbeat(std::chrono::milliseconds(5));
  heartbeat.add(file);
  EXPECT_TRUE(is_touched());
  EXPECT_TRUE(is_touched());
  heartbeat.remove(file);
  is_touched();  // one may be on its way
  EXPECT_FALSE(is_touched());
}

// Guards: an executor knows what it runs; a claim of its own process without a job was cut short before the start.
TEST_F(LocalRun, ItsOwnClaimWithoutAJobIsDead) {
  LocalExecutor local = executor("");
  const std::vector<StartRequest> requests(1);
  EXPECT_FALSE(local.may_be_running(local.prepare(requests)[0], [] { return 0.0; }));
}

}  // namespace
}  // namespace filo
