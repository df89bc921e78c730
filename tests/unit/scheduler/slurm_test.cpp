// SlurmExecutor and its batch script against commands that this test makes up, so that each of a controller's bad days
// can be had at will. tests/slurm runs them on a real cluster.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <fstream>
#include <sstream>
#include <thread>

#include "base/process.hpp"
#include "scheduler/executors/slurm_executor.hpp"
#include "scheduler/report/status.hpp"
#include "tests/unit/support/scratch.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

// A queue in a file, a line a job as squeue prints it; `mode` says how sbatch and squeue behave.
constexpr const char* fake_sbatch = R"sh(#!/bin/bash
here=$(dirname "$0")
echo sbatch >>"$here/calls"
printf '%s\n' "$@" >"$here/arguments"
mode=$(cat "$here/mode" 2>/dev/null)
case $mode in
  refuse) echo "sbatch: error: Batch job submission failed: Invalid partition name specified" >&2; exit 1 ;;
  lost) echo "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation" >&2; exit 1 ;;
  full) echo "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying" >&2; sleep 60 ;;
  user-full) echo "sbatch: error: QOSMaxSubmitJobPerUserLimit" >&2; exit 1 ;;
  hang) sleep 60 ;;
esac
id=$(cat "$here/next" 2>/dev/null || echo 100)
echo $((id + 1)) >"$here/next"
name= indices=
for word; do
  case $word in
    --job-name=*) name=${word#*=} ;;
    --array=*) for range in $(tr , ' ' <<<"${word#*=}"); do indices+=" $(seq -s ' ' ${range/-/ })"; [[ $range = *-* ]] || indices="${indices% *} $range"; done ;;
  esac
done
if [ -n "$indices" ]; then
  for index in $indices; do echo "$id|$index|PENDING|0|0|JobHeldUser||$name|"; done >>"$here/queue"
else
  echo "$id|N/A|PENDING|0|0|JobHeldUser||$name|" >>"$here/queue"
fi
[ "$mode" != late ] || { echo "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation" >&2; exit 1; }
echo "$id"
)sh";
constexpr const char* fake_squeue = R"sh(#!/bin/bash
here=$(dirname "$0")
echo squeue >>"$here/calls"
[ "$(cat "$here/mode" 2>/dev/null)" != down ] || { echo "slurm_load_jobs error: Unable to contact slurm controller (connect failure)" >&2; exit 1; }
[ "$(cat "$here/mode" 2>/dev/null)" != silent ] || sleep 60
cat "$here/queue" 2>/dev/null || true
)sh";
constexpr const char* fake_scontrol = R"sh(#!/bin/bash
here=$(dirname "$0")
echo "scontrol $*" >>"$here/calls"
if [ "$1 $2" = "show config" ]; then
  printf 'MaxArraySize            = 401\nMessageTimeout          = 0 sec\nAccountingStorageType   = %s\n' "$(cat "$here/accounting" 2>/dev/null || echo accounting_storage/none)"
else
  sed -i 's/|PENDING|0|0|JobHeldUser||/|RUNNING|0|0|None|n1|/' "$here/queue"
fi
)sh";
constexpr const char* fake_scancel = R"sh(#!/bin/bash
here=$(dirname "$0")
echo "scancel $*" >>"$here/calls"
)sh";
constexpr const char* fake_sacct = R"sh(#!/bin/bash
cat "$(dirname "$0")/accounted"
)sh";

class SlurmExecutorTest : public ::testing::Test {
 protected:
  SlurmExecutorTest() : workspace(scratch.folder / "workspace"), bin(scratch.folder / "bin") {
    for (const auto& [name, text] : std::map<std::string, const char*>{{"sbatch", fake_sbatch},
                                                                       {"squeue", fake_squeue},
                                                                       {"scontrol", fake_scontrol},
                                                                       {"scancel", fake_scancel},
                                                                       {"sacct", fake_sacct}}) {
      scratch.write("bin/" + name, text);
      fs::permissions(bin / name, fs::perms::owner_all);
    }
    settings.name = "test";
    settings.slurm_bin = bin.string();
    settings.command_timeout_s = 2;
    settings.message_timeout_s = 0.1;
  }

  // `count` stages with an attempt each.
  std::vector<StartRequest> requests(std::size_t count, const ResourceSettings& resources = {}) {
    std::vector<StartRequest> made;
    for (std::size_t i = 0; i < count; ++i) {
      char key[32];
      std::snprintf(key, sizeof key, "%016zx", stages.size() + 1);
      stages.push_back(std::make_unique<PlannedStage>());
      stages.back()->key = key;
      stages.back()->kind = StageKind::train;
      fs::create_directories(workspace.stage_folder(key) / "attempts");
      made.push_back({stages.back().get(), workspace.make_attempt(key), resources});
    }
    return made;
  }

  SlurmExecutor executor() { return SlurmExecutor(workspace, settings, "/opt/filo-worker", scratch.folder); }

  static std::vector<std::string> start(SlurmExecutor& executor, const std::vector<StartRequest>& wanted) {
    return executor.start(wanted, executor.prepare(wanted));
  }

  void mode(const std::string& name) { scratch.write("bin/mode", name); }
  std::string text(const std::string& name) { return fs::exists(bin / name) ? read_file(bin / name) : ""; }
  std::vector<std::string> calls(const std::string& command = "") {
    std::vector<std::string> lines;
    std::istringstream stream(text("calls"));
    for (std::string line; std::getline(stream, line);)
      if (line.starts_with(command)) lines.push_back(line);
    return lines;
  }
  // Every job's state becomes `state` (after a '|' the wait status).
  void all_become(const std::string& state, int wait_status = 0) {
    std::string queue;
    std::istringstream stream(text("queue"));
    for (std::string line; std::getline(stream, line);) {
      auto fields = split_fields(line, 8);
      fields[2] = state;
      fields[3] = std::to_string(wait_status);
      for (const auto& field : fields) queue += field + "|";
      queue += "\n";
    }
    scratch.write("bin/queue", queue);
  }
  std::vector<fs::path> records() {
    std::vector<fs::path> found;
    for (const auto& entry : fs::directory_iterator(workspace.root() / "slurm/batches"))
      if (entry.path().extension() == ".json") found.push_back(entry.path());
    return found;
  }

  Scratch scratch;
  Workspace workspace;
  fs::path bin;
  ClusterSettings settings;
  std::vector<std::unique_ptr<PlannedStage>> stages;
};

// Guards the figure: 1,000 jobs in at most (jobs / array size) + 5 commands; MaxArraySize of the controller is heeded.
TEST_F(SlurmExecutorTest, AThousandStagesOfOneShapeAreFewCommands) {
  SlurmExecutor slurm = executor();
  EXPECT_THAT(slurm.jobs(), IsEmpty());
  const auto problems = start(slurm, requests(1000));
  EXPECT_TRUE(std::all_of(problems.begin(), problems.end(), [](const auto& text) { return text.empty(); }));
  EXPECT_THAT(calls("sbatch"), SizeIs(3));  // arrays of 401
  EXPECT_LE(slurm.commands_run(), 1000 / 401 + 1 + 5);
  const auto jobs = slurm.jobs();
  ASSERT_EQ(jobs.size(), 1000u);
  EXPECT_EQ(jobs[7].state, JobState::running);
  EXPECT_THAT(jobs[7].where, AllOf(HasSubstr("Slurm job 10"), HasSubstr("_7 on n1")));
  EXPECT_THAT(calls("squeue"), SizeIs(2));
}

// Guards what `filo submit` tells: a stage that was handed over waits in the queue, it does not run yet.
TEST_F(SlurmExecutorTest, WhatWasHandedOverIsQueued) {
  const auto wanted = requests(1);
  Plan plan;
  plan.stages.push_back(*wanted[0].stage);
  fs::remove_all(workspace.attempt_folder(plan.stages[0].key, 1));
  SlurmExecutor slurm = executor();
  const auto statuses = reconcile(workspace, plan, slurm, {});
  EXPECT_EQ(statuses[0].state, StageState::queued);
  EXPECT_EQ(statuses[0].where, "handed to slurm test");
}

TEST_F(SlurmExecutorTest, StagesOfTwoShapesAreTwoArrays) {
  SlurmExecutor slurm = executor();
  auto wanted = requests(2, {.ranks = 2});
  for (const auto& other : requests(3, {.ranks = 1})) wanted.push_back(other);
  start(slurm, wanted);
  EXPECT_THAT(calls("sbatch"), SizeIs(2));
  EXPECT_THAT(slurm.jobs(), SizeIs(5));
}

// Guards the two phases: the job is held until its id is recorded.
TEST_F(SlurmExecutorTest, AJobIsHeldUntilItsIdIsRecorded) {
  SlurmExecutor slurm = executor();
  start(slurm, requests(1));
  EXPECT_THAT(text("arguments"), HasSubstr("--hold\n"));
  ASSERT_THAT(records(), SizeIs(1));
  const Json record = read_json(records()[0]);
  EXPECT_EQ(record["job_id"], 100);
  EXPECT_GT(record["released_at"], 0);
  EXPECT_THAT(text("arguments"), HasSubstr("--job-name=" + record["name"].get<std::string>()));
  EXPECT_THAT(calls(), ElementsAre("sbatch", "scontrol release 100"));
}

// Guards: an error of sbatch is not believed; the job that was taken all the same is found by name, once.
TEST_F(SlurmExecutorTest, AJobWhoseSbatchFailedTooLateIsAdopted) {
  mode("late");
  SlurmExecutor slurm = executor();
  EXPECT_THAT(start(slurm, requests(3)), ElementsAre("", "", ""));
  EXPECT_THAT(calls("scontrol release"), IsEmpty());
  mode("");
  EXPECT_THAT(slurm.jobs(), SizeIs(3));
  EXPECT_THAT(calls("scontrol release"), ElementsAre("scontrol release 100"));
  EXPECT_EQ(slurm.jobs()[1].state, JobState::running);
  EXPECT_THAT(calls("sbatch"), SizeIs(1));
}

// Guards: a submission that came to nothing is repeated, but not before the controller can no longer take it.
TEST_F(SlurmExecutorTest, ASubmissionThatWasLostIsRepeatedAfterTheControllersTime) {
  settings.command_timeout_s = 0.4;
  mode("lost");
  SlurmExecutor slurm = executor();
  start(slurm, requests(1));
  mode("");
  auto jobs = slurm.jobs();
  ASSERT_EQ(jobs.size(), 1u);
  EXPECT_EQ(jobs[0].state, JobState::pending);
  EXPECT_THAT(jobs[0].where, HasSubstr("Socket timed out"));
  EXPECT_THAT(calls("sbatch"), SizeIs(1));
  std::this_thread::sleep_for(std::chrono::milliseconds(500));
  slurm.jobs();
  EXPECT_THAT(calls("sbatch"), SizeIs(2));
  jobs = slurm.jobs();
  ASSERT_EQ(jobs.size(), 1u);
  EXPECT_EQ(jobs[0].state, JobState::running);
}

// Guards: a controller that was killed had saved the job, but not yet its release.
TEST_F(SlurmExecutorTest, AReleaseThatTheControllerForgotIsRepeated) {
  SlurmExecutor slurm = executor();
  start(slurm, requests(2));
  std::string queue = text("queue");
  for (auto at = queue.find("RUNNING|0|0|None|n1"); at != std::string::npos; at = queue.find("RUNNING|0|0|None|n1"))
    queue.replace(at, 19, "PENDING|0|0|JobHeldUser|");
  scratch.write("bin/queue", queue);
  slurm.jobs();
  EXPECT_EQ(slurm.jobs().at(1).state, JobState::running);
  EXPECT_THAT(calls("scontrol release"), SizeIs(2));
}

// Guards: what somebody holds later stays held.
TEST_F(SlurmExecutorTest, AJobThatSomebodyHoldsStaysHeld) {
  SlurmExecutor slurm = executor();
  start(slurm, requests(1));
  Json record = read_json(records().at(0));
  record["released_at"] = record["released_at"].get<double>() - 3600;
  write_json(records().at(0), record);
  slurm.jobs();
  std::string queue = text("queue");
  queue.replace(queue.find("RUNNING|0|0|None|n1"), 19, "PENDING|0|0|JobHeldUser|");
  scratch.write("bin/queue", queue);
  EXPECT_EQ(slurm.jobs().at(0).state, JobState::pending);
  EXPECT_THAT(calls("scontrol release"), SizeIs(1));
}

// Guards: when both submissions of one batch arrive, one of them runs.
TEST_F(SlurmExecutorTest, TheSecondCopyOfAJobIsCancelled) {
  SlurmExecutor slurm = executor();
  start(slurm, requests(1));
  const std::string name = read_json(records()[0])["name"];
  scratch.write("bin/queue", text("queue") + "107|N/A|PENDING|0|0|JobHeldUser||" + name + "|\n");
  EXPECT_THAT(slurm.jobs(), SizeIs(1));
  EXPECT_THAT(calls("scancel"), ElementsAre("scancel --quiet 107"));
}

TEST_F(SlurmExecutorTest, ARefusalIsToldAndLeavesNothing) {
  mode("refuse");
  SlurmExecutor slurm = executor();
  const auto problems = start(slurm, requests(2));
  EXPECT_THAT(problems, ElementsAre(HasSubstr("Invalid partition name"), HasSubstr("Invalid partition name")));
  EXPECT_THAT(records(), IsEmpty());
  mode("");
  EXPECT_THAT(slurm.jobs(), IsEmpty());
}

// Guards: "could not ask" is not "not there".
TEST_F(SlurmExecutorTest, AControllerThatIsDownConcludesNothing) {
  SlurmExecutor slurm = executor();
  start(slurm, requests(1));
  mode("down");
  EXPECT_THAT(error_of([&] { slurm.jobs(); }), HasSubstr("Unable to contact slurm controller"));
  mode("");
  EXPECT_EQ(slurm.jobs().at(0).state, JobState::running);
}

TEST_F(SlurmExecutorTest, AControllerThatHangsHoldsNobodyForLong) {
  settings.command_timeout_s = 0.5;
  SlurmExecutor slurm = executor();
  mode("silent");
  const auto start_time = std::chrono::steady_clock::now();
  EXPECT_THAT(error_of([&] { slurm.jobs(); }), HasSubstr("no answer from the controller in time"));
  mode("hang");
  EXPECT_THAT(start(slurm, requests(1)), ElementsAre(""));  // unknown: it may be there
  EXPECT_LT(std::chrono::steady_clock::now() - start_time, std::chrono::seconds(5));
}

// Guards against id reuse: a controller killed within five seconds of a submission gives its id to the next job.
TEST_F(SlurmExecutorTest, AnotherJobUnderOurIdIsNotOurs) {
  SlurmExecutor slurm = executor();
  start(slurm, requests(1));
  scratch.write("bin/queue", "100|N/A|COMPLETED|0|0|None|n1|somebody-elses|\n");
  const auto jobs = slurm.jobs();
  ASSERT_EQ(jobs.size(), 1u);
  EXPECT_EQ(jobs[0].state, JobState::ended);
  EXPECT_EQ(jobs[0].cause, EndCause::vanished);
}

TEST_F(SlurmExecutorTest, SlurmsStatesAreCauses) {
  SlurmExecutor slurm = executor();
  const auto wanted = requests(1);
  start(slurm, wanted);
  const std::vector<std::tuple<const char*, int, EndCause>> cases = {{"NODE_FAIL", 0, EndCause::node_failure},
                                                                     {"BOOT_FAIL", 0, EndCause::node_failure},
                                                                     {"PREEMPTED", 15, EndCause::preempted},
                                                                     {"TIMEOUT", 15, EndCause::timeout},
                                                                     {"OUT_OF_MEMORY", 137, EndCause::out_of_memory},
                                                                     {"CANCELLED", 15, EndCause::cancelled},
                                                                     {"FAILED", 11, EndCause::signalled},
                                                                     {"FAILED", 75 << 8, EndCause::exited},
                                                                     {"COMPLETED", 0, EndCause::exited}};
  for (const auto& [state, status, cause] : cases) {
    all_become(state, status);
    const Job job = executor().jobs().at(0);  // what one executor concluded stays so
    EXPECT_EQ(job.state, JobState::ended) << state;
    EXPECT_EQ(job.cause, cause) << state << " " << to_string(job.cause);
    if (status == 75 << 8) {
      EXPECT_EQ(job.exit_code, 75);
    }
  }
  for (const char* state : {"RUNNING", "COMPLETING", "SUSPENDED"}) {
    all_become(state);
    EXPECT_EQ(executor().jobs().at(0).state, JobState::running) << state;
  }
  for (const char* state : {"PENDING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT", "SOMETHING_NEW"}) {
    all_become(state);
    EXPECT_EQ(executor().jobs().at(0).state, JobState::pending) << state;
  }
}

// Guards a coordinator that was killed before sbatch: the next one submits what was prepared, once.
TEST_F(SlurmExecutorTest, WhatWasPreparedAndNotSubmittedIsSubmittedByTheNextCoordinator) {
  const auto wanted = requests(2);
  executor().prepare(wanted);
  EXPECT_THAT(calls("sbatch"), IsEmpty());
  SlurmExecutor next = executor();
  EXPECT_THAT(next.jobs(), SizeIs(2));
  EXPECT_THAT(calls("sbatch"), SizeIs(1));
  EXPECT_EQ(next.jobs().at(0).state, JobState::running);
  EXPECT_THAT(calls("sbatch"), SizeIs(1));
}

// Guards a coordinator that was killed between sbatch and its record: the job is found by its name and released.
TEST_F(SlurmExecutorTest, AJobThatWasSubmittedAndNotRecordedIsFoundByItsName) {
  const auto wanted = requests(2);
  {
    SlurmExecutor slurm = executor();
    start(slurm, wanted);
  }
  Json record = read_json(records().at(0));
  record["state"] = "submitting";
  record["job_id"] = 0;
  record["released_at"] = 0;
  write_json(records().at(0), record);
  std::string queue = text("queue");
  for (auto at = queue.find("RUNNING|0|0|None|n1"); at != std::string::npos; at = queue.find("RUNNING|0|0|None|n1"))
    queue.replace(at, 19, "PENDING|0|0|JobHeldUser|");
  scratch.write("bin/queue", queue);
  SlurmExecutor next = executor();
  next.jobs();
  EXPECT_EQ(read_json(records().at(0))["job_id"], 100);
  EXPECT_EQ(next.jobs().at(0).state, JobState::running);
  EXPECT_THAT(calls("sbatch"), SizeIs(1));
}

// Guards: a job of an attempt that was given up must not run, should it turn up later.
TEST_F(SlurmExecutorTest, AJobOfAnAttemptThatWasGivenUpIsCancelled) {
  const auto wanted = requests(2);
  {
    SlurmExecutor slurm = executor();
    start(slurm, wanted);
  }
  workspace.write_end(wanted[1].stage->key, 1, {"lost", "vanished", "test"});
  SlurmExecutor next = executor();
  EXPECT_THAT(next.jobs(), SizeIs(1));
  EXPECT_THAT(calls("scancel"), ElementsAre("scancel --quiet 100_1"));
}

TEST_F(SlurmExecutorTest, AnAttemptThatWasForgottenLeavesNoRecord) {
  SlurmExecutor slurm = executor();
  const auto wanted = requests(2);
  start(slurm, wanted);
  slurm.jobs();
  slurm.forget(wanted[0].stage->key, 1);
  EXPECT_THAT(slurm.jobs(), SizeIs(1));
  EXPECT_THAT(records(), SizeIs(1));
  all_become("COMPLETED");
  slurm.forget(wanted[1].stage->key, 1);
  EXPECT_THAT(records(), IsEmpty());
  EXPECT_THAT(slurm.jobs(), IsEmpty());
}

TEST_F(SlurmExecutorTest, NoMoreJobsThanTheSiteAllowsAreInTheQueue) {
  settings.max_submit = 5;
  scratch.write("bin/queue", "90|N/A|RUNNING|0|0|None|n1|other work|\n91|N/A|COMPLETED|0|0|None|n1|old|\n");
  SlurmExecutor slurm = executor();
  EXPECT_FALSE(slurm.reserve({}));  // nobody looked yet
  slurm.jobs();
  int reserved = 0;
  while (slurm.reserve({})) ++reserved;
  EXPECT_EQ(reserved, 4);
}

// Guards: a full queue is no failure of the stages; they wait, and nothing more is sent for a while.
TEST_F(SlurmExecutorTest, AFullQueueFailsNobody) {
  settings.command_timeout_s = 0.5;
  for (const char* kind : {"full", "user-full"}) {
    mode(kind);
    SlurmExecutor slurm = executor();
    slurm.jobs();
    EXPECT_THAT(start(slurm, requests(1)), ElementsAre("")) << kind;
    EXPECT_FALSE(slurm.reserve({})) << kind;
    const auto jobs = slurm.jobs();
    EXPECT_EQ(jobs.back().state, JobState::pending) << kind;
    EXPECT_THAT(jobs.back().where, HasSubstr("not in Slurm's queue yet")) << kind;
  }
}

// Guards: what is asked of many jobs is one command; a job that has not begun has no snapshot to write.
TEST_F(SlurmExecutorTest, StopSignalsTheBatchScriptAndKillCancels) {
  const auto wanted = requests(4);
  {
    SlurmExecutor slurm = executor();
    start(slurm, wanted);
    slurm.jobs();
    slurm.stop(wanted[0].stage->key, 1);
    slurm.stop(wanted[0].stage->key, 1);
    slurm.stop(wanted[1].stage->key, 1);
    slurm.kill(wanted[2].stage->key, 1);
    slurm.kill("no such stage", 1);
    EXPECT_THAT(calls("scancel"), IsEmpty());
  }
  EXPECT_THAT(calls("scancel"),
              ElementsAre("scancel --quiet --batch --signal=USR2 100_0 100_1", "scancel --quiet 100_2"));
}

TEST_F(SlurmExecutorTest, KillBeforeSubmissionKeepsTheStageOutOfTheArray) {
  const auto wanted = requests(3);
  SlurmExecutor first = executor();
  first.prepare(wanted);
  first.kill(wanted[1].stage->key, 1);
  SlurmExecutor next = executor();
  const auto jobs = next.jobs();
  EXPECT_THAT(text("arguments"), HasSubstr("--array=0,2\n"));
  EXPECT_THAT(jobs, Contains(::testing::Field(&Job::cause, EndCause::cancelled)));
}

// Guards: after MinJobAge Slurm knows nothing; the accounting data base and the script's own last word do.
TEST_F(SlurmExecutorTest, WhatSlurmHasForgottenIsAskedElsewhere) {
  scratch.write("bin/accounting", "accounting_storage/slurmdbd");
  const auto wanted = requests(4);
  SlurmExecutor slurm = executor();
  start(slurm, wanted);
  const std::string name = read_json(records()[0])["name"];
  scratch.write("bin/queue", "");
  write_file_atomically(workspace.attempt_folder(wanted[0].stage->key, 1) / "exit.txt", "100 0 75\n");
  write_file_atomically(workspace.attempt_folder(wanted[3].stage->key, 1) / "exit.txt", "100 0 75\n");
  scratch.write("bin/accounted", "100_1|CANCELLED by 1000|0:15|n1|" + name +
                                     "\n100_2|NODE_FAIL|0:0|n2|another\n100_3|CANCELLED by 1000|75:0|n1|" + name +
                                     "\n");
  const auto jobs = slurm.jobs();
  ASSERT_EQ(jobs.size(), 4u);
  EXPECT_EQ(jobs[0].cause, EndCause::exited);
  EXPECT_EQ(jobs[0].exit_code, 75);
  EXPECT_EQ(jobs[1].cause, EndCause::cancelled);
  EXPECT_EQ(jobs[2].cause, EndCause::vanished);
  EXPECT_EQ(jobs[3].cause, EndCause::cancelled) << "its script knows of a signal only, not who sent it";
}

// Guards `filo status` on a cluster: pending or running and why, by one squeue, changing nothing; once for many looks.
TEST_F(SlurmExecutorTest, WhoOnlyLooksSeesWhatTheQueueSays) {
  Plan plan;
  plan.name = "looked-at";
  const auto wanted = requests(3);
  for (const auto& request : wanted) plan.stages.push_back(*request.stage);
  fs::create_directories(workspace.experiment_folder(plan.name));
  const std::string cluster = scratch.write("cluster.yaml", "name: test\nslurm_bin: " + bin.string() + "\n");
  workspace.write_active({.name = plan.name, .executor = "slurm", .cluster = cluster});
  {
    SlurmExecutor slurm = executor();
    start(slurm, wanted);
  }
  const auto before = calls();
  const std::string record = read_file(records()[0]);
  const auto look = [&](QueueView& queues) {
    std::vector<StageStatus> statuses;
    for (const auto& stage : plan.stages)
      statuses.push_back({.key = stage.key, .state = StageState::running, .attempt = 1});
    statuses[2].attempt = 2;  // a newer one, of which the queue knows nothing
    EXPECT_EQ(queues.update(workspace, plan, statuses), "");
    return statuses;
  };
  all_become("PENDING");
  QueueView queues;
  EXPECT_EQ(look(queues)[0].state, StageState::queued);
  EXPECT_THAT(look(queues)[0].where, HasSubstr("Slurm job 100_0, pending"));
  EXPECT_EQ(look(queues)[2].where, "");
  EXPECT_EQ(calls().size(), before.size() + 1);
  EXPECT_EQ(read_file(records()[0]), record);
  all_become("RUNNING");
  QueueView later;
  EXPECT_EQ(look(later)[1].state, StageState::running);
  EXPECT_EQ(look(later)[1].where, "Slurm job 100_1 on n1");
  mode("down");
  QueueView blind;
  std::vector<StageStatus> statuses(3);
  EXPECT_THAT(blind.update(workspace, plan, statuses), HasSubstr("Unable to contact slurm controller"));
}

TEST_F(SlurmExecutorTest, ARecordThatIsBrokenIsLeftAside) {
  fs::create_directories(workspace.root() / "slurm/batches");
  write_file_atomically(workspace.root() / "slurm/batches/filo-1.json", "{\"name\": \"filo-1\"");
  write_file_atomically(workspace.root() / "slurm/batches/filo-2.json", "{\"name\": 3}");
  SlurmExecutor slurm = executor();
  start(slurm, requests(1));
  EXPECT_THAT(slurm.jobs(), SizeIs(1));
}

TEST_F(SlurmExecutorTest, AClaimHoldsWhileItsBatchIsRecorded) {
  SlurmExecutor slurm = executor();
  const auto wanted = requests(1);
  const auto claims = slurm.prepare(wanted);
  EXPECT_EQ(claims[0]["executor"], "slurm test");
  EXPECT_TRUE(executor().may_be_running(claims[0], 0));
  EXPECT_FALSE(executor().may_be_running({{"executor", "slurm test"}, {"batch", "filo-0"}}, 0));
  EXPECT_FALSE(executor().may_be_running({{"executor", "slurm test"}, {"batch", "../x"}}, 0));
}

// The batch script, run by bash itself.
class SlurmScriptTest : public SlurmExecutorTest {
 protected:
  // `name` of the workspace's folder; the worker is `worker_text`.
  fs::path script(const std::string& name, const std::string& worker_text, std::vector<std::string> inputs = {}) {
    chosen = std::make_unique<Workspace>(scratch.folder / name);
    const std::string key = "00000000000000aa";
    fs::create_directories(chosen->stage_folder(key) / "attempts");
    chosen->make_attempt(key);
    const std::string worker = scratch.write("it's a \"worker\"", "#!/bin/bash\n" + worker_text);
    fs::permissions(worker, fs::perms::owner_all);
    scratch.write("bin/srun", "#!/bin/bash\nwhile [ \"${1#--}\" != \"$1\" ]; do shift; done\nexec \"$@\"\n");
    fs::permissions(bin / "srun", fs::perms::owner_all);
    SlurmBatch batch{.name = "filo-test",
                     .cluster = "test",
                     .folder = scratch.folder.string(),
                     .resources = {},
                     .entries = {{.stage = "00000000000000bb", .attempt = 1}, {.stage = key, .attempt = 1}},
                     .message = {}};
    batch.entries[1].inputs = std::move(inputs);
    return scratch.write("batch script.sh", slurm_script(batch, settings, *chosen, worker));
  }

  Process run(const fs::path& file) {
    return Process({.arguments = {"bash", file.string()},
                    .environment = {{"SLURM_JOB_ID", "12"}, {"SLURM_ARRAY_TASK_ID", "1"}, {"SBATCH_PARTITION", "x"}}});
  }
  std::string log() { return read_file(chosen->log_file("00000000000000aa", 1)); }
  std::string left() { return read_file(chosen->attempt_folder("00000000000000aa", 1) / "exit.txt"); }

  std::unique_ptr<Workspace> chosen;
};

constexpr const char* print_all =
    "printf '<%s>' \"$@\"; printf '[%s]' \"$A_1\" \"$OMP_NUM_THREADS\" \"$FILO_SERVER_FILE\" \"$SBATCH_PARTITION\"; "
    "exit 3\n";

// Guards every quote: what a YAML or a path holds reaches the worker as it is, and nothing of it is run.
TEST_F(SlurmScriptTest, NoValueIsEverRun) {
  const std::string nasty = "-a 'b\" $(touch " + (scratch.folder / "touched").string() + ") `touch " +
                            (scratch.folder / "touched").string() + "`;\n\\ * ${HOME} !x %j";
  settings.environment = {{"A_1", nasty}};
  settings.launcher_arguments = {"--x=" + nasty};
  std::string folder = nasty;
  std::replace(folder.begin(), folder.end(), '/', '_');
  Process process = run(script(folder, print_all));
  EXPECT_EQ(process.wait().exit_code, 3);
  EXPECT_FALSE(fs::exists(scratch.folder / "touched"));
  EXPECT_THAT(log(), HasSubstr("<features><--workspace><" + chosen->root().string() +
                               "><--stage><00000000000000aa><--attempt><1><--threads><1>"));
  EXPECT_THAT(log(), HasSubstr("[" + nasty + "][1][" + (chosen->root() / "server.json").string() + "][]"));
  EXPECT_EQ(left(), "12 0 3\n");
}

// Guards the same for sbatch's own options, which never see a shell.
TEST_F(SlurmScriptTest, OptionsOfSbatchAreArguments) {
  settings.account = "-x $(touch y)\n'";
  settings.partition = "a b";
  settings.sbatch_options = {"--exclude=n1;n2"};
  SlurmExecutor slurm = executor();
  start(slurm, requests(1));
  EXPECT_THAT(text("arguments"),
              AllOf(HasSubstr("--account=-x $(touch y)\n'\n"), HasSubstr("--partition=a b\n"),
                    HasSubstr("--exclude=n1;n2\n"), HasSubstr("--signal=B:USR2@120\n"), HasSubstr("--no-requeue\n")));
}

TEST_F(SlurmScriptTest, TheSignalGoesToTheWorkerAndItsExitCodeComesBack) {
  Process process = run(script("w", "trap 'echo snapshot; exit 75' USR2\necho ready\nwhile :; do sleep 0.05; done\n"));
  while (!fs::exists(chosen->log_file("00000000000000aa", 1)) || log().find("ready") == std::string::npos)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  kill(process.pid(), SIGUSR2);
  EXPECT_EQ(process.wait().exit_code, 75);
  EXPECT_THAT(log(), HasSubstr("snapshot"));
  EXPECT_EQ(left(), "12 0 75\n");
}

// Guards: a second signal while it waits, and a worker that takes its time.
TEST_F(SlurmScriptTest, ItWaitsForAWorkerThatTakesItsTime) {
  Process process = run(script(
      "w", "n=0; trap 'n=$((n+1))' USR2\necho ready\nuntil [ $n -ge 2 ]; do sleep 0.05; done; sleep 0.3; exit 75\n"));
  while (!fs::exists(chosen->log_file("00000000000000aa", 1)) || log().find("ready") == std::string::npos)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  kill(process.pid(), SIGUSR2);
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  kill(process.pid(), SIGTERM);
  EXPECT_EQ(process.wait().exit_code, 75);
}

TEST_F(SlurmScriptTest, AWorkerThatDiesOfASignalWithoutBeingAskedHasFailed) {
  EXPECT_EQ(run(script("w", "kill -SEGV $$\n")).wait().exit_code, 139);
}

TEST_F(SlurmScriptTest, AStageWhoseInputHasNoResultIsRefused) {
  const fs::path file = script("w", "exit 0\n", {"00000000000000cc"});
  EXPECT_EQ(run(file).wait().exit_code, 1);
  EXPECT_THAT(log(), HasSubstr("stage 00000000000000cc, which this one needs, has no valid result.json"));
  fs::create_directories(chosen->stage_folder("00000000000000cc"));
  write_result(*chosen, "00000000000000cc", StageKind::features, 1);
  EXPECT_EQ(run(file).wait().exit_code, 0);
}

// Guards: a copy that a restarted controller brings back does nothing once its attempt was given up.
TEST_F(SlurmScriptTest, AnAttemptThatWasGivenUpOrSupersededIsRefused) {
  const fs::path file = script("w", "echo it ran\n");
  chosen->make_attempt("00000000000000aa");
  EXPECT_EQ(run(file).wait().exit_code, 1);
  EXPECT_THAT(log(), AllOf(HasSubstr("superseded"), Not(HasSubstr("it ran"))));
  fs::remove_all(chosen->attempt_folder("00000000000000aa", 2));
  chosen->write_end("00000000000000aa", 1, {"lost", "vanished", "test"});
  EXPECT_EQ(run(file).wait().exit_code, 1);
  EXPECT_THAT(log(), HasSubstr("given up"));
}

TEST_F(SlurmScriptTest, AWorkerThatIsNotOnTheNodeIsNamed) {
  settings.prologue = {"worker=/nowhere/filo-worker", "echo prologue ran"};
  EXPECT_EQ(run(script("w", "exit 0\n")).wait().exit_code, 1);
  EXPECT_THAT(log(), AllOf(HasSubstr("prologue ran"), HasSubstr("found no program /nowhere/filo-worker")));
}

TEST(SlurmTimes, AreReadAsSinfoPrintsThem) {
  EXPECT_EQ(slurm_seconds("1-02:03:04"), 93784);
  EXPECT_EQ(slurm_seconds("12:00:00"), 43200);
  EXPECT_EQ(slurm_seconds("30:00"), 1800);
  EXPECT_EQ(slurm_seconds("infinite"), std::nullopt);
  EXPECT_EQ(slurm_seconds("n/a"), std::nullopt);
  EXPECT_EQ(slurm_seconds(""), std::nullopt);
}

TEST(SlurmArguments, ResourcesBecomeOptions) {
  const Scratch scratch;
  const Workspace workspace(scratch.folder / "w");
  SlurmBatch batch;
  batch.name = "filo-x";
  batch.entries.resize(3);
  batch.resources = {.ranks = 4, .threads = 2, .gpus = 1, .memory = "4G", .time = "00:01:00"};
  ClusterSettings settings;
  auto options = slurm_arguments(batch, settings, workspace, "/s.sh");
  EXPECT_THAT(options, AllOf(Contains("--ntasks=4"), Contains("--cpus-per-task=2"), Contains("--mem-per-cpu=512M"),
                             Contains("--gres=gpu:4"), Contains("--array=0-2"), Contains("--nodes=1"),
                             Contains("--time=00:01:00"), Contains("--signal=B:USR2@30")));
  EXPECT_EQ(options.back(), "/s.sh");
  const ResourceSettings wanted = {.ranks = 1, .memory = "300G", .time = "48:00:00"};
  EXPECT_EQ(within_limits(wanted, settings).time, "48:00:00");
  settings.max_time = "24:00:00";
  settings.max_memory = "180G";
  EXPECT_EQ(within_limits(wanted, settings).time, "24:00:00");
  EXPECT_EQ(within_limits(wanted, settings).memory, "180G");
  EXPECT_EQ(within_limits(batch.resources, settings).time, "00:01:00");
  settings.memory = MemoryForm::per_node;
  settings.gpu_form = GpuForm::gpus_per_task;
  settings.gpu_type = "a100";
  settings.requeue = true;
  settings.one_node = false;
  batch.entries.resize(1);
  options = slurm_arguments(batch, settings, workspace, "/s.sh");
  EXPECT_THAT(options, AllOf(Contains("--mem=4096M"), Contains("--gpus-per-task=a100:1"), Contains("--requeue"),
                             Not(Contains("--nodes=1")), Not(Contains("--array=0"))));
}

}  // namespace
}  // namespace filo
