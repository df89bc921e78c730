// SlurmExecutor against a made-up controller.
#include "scheduler/executors/slurm_executor.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "scheduler/control/reconcile.hpp"
#include "scheduler/report/status.hpp"
#include "tests/unit/support/fake_slurm.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

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
  for (auto at = queue.find("RUNNING|0|0|1000|2000|None|n1"); at != std::string::npos;
       at = queue.find("RUNNING|0|0|1000|2000|None|n1"))
    queue.replace(at, 29, "PENDING|0|0|N/A|N/A|JobHeldUser|");
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
  queue.replace(queue.find("RUNNING|0|0|1000|2000|None|n1"), 29, "PENDING|0|0|N/A|N/A|JobHeldUser|");
  scratch.write("bin/queue", queue);
  EXPECT_EQ(slurm.jobs().at(0).state, JobState::pending);
  EXPECT_THAT(calls("scontrol release"), SizeIs(1));
}

// Guards: when both submissions of one batch arrive, one of them runs.
TEST_F(SlurmExecutorTest, TheSecondCopyOfAJobIsCancelled) {
  SlurmExecutor slurm = executor();
  start(slurm, requests(1));
  const std::string name = read_json(records()[0])["name"];
  scratch.write("bin/queue", text("queue") + "107|N/A|PENDING|0|0|N/A|N/A|JobHeldUser||" + name + "|\n");
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
  scratch.write("bin/queue", "100|N/A|COMPLETED|0|0|1000|2000|None|n1|somebody-elses|\n");
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
  for (auto at = queue.find("RUNNING|0|0|1000|2000|None|n1"); at != std::string::npos;
       at = queue.find("RUNNING|0|0|1000|2000|None|n1"))
    queue.replace(at, 29, "PENDING|0|0|N/A|N/A|JobHeldUser|");
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
  workspace.write_outcome(wanted[1].stage->key, 1, {"lost", "vanished", "test"});
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
  scratch.write("bin/queue",
                "90|N/A|RUNNING|0|0|1000|2000|None|n1|other work|\n91|N/A|COMPLETED|0|0|1000|2000|None|n1|old|\n");
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
  scratch.write("bin/accounted", "100_1|CANCELLED by 1000|0:15|12|n1|" + name +
                                     "\n100_2|NODE_FAIL|0:0|12|n2|another\n100_3|CANCELLED by 1000|75:0|12|n1|" + name +
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
  const auto no_age = [] { return 0.0; };
  EXPECT_TRUE(executor().may_be_running(claims[0], no_age));
  EXPECT_FALSE(executor().may_be_running({{"executor", "slurm test"}, {"batch", "filo-0"}}, no_age));
  EXPECT_FALSE(executor().may_be_running({{"executor", "slurm test"}, {"batch", "../x"}}, no_age));
}

// Guards the pass: what Slurm says may be in another encoding, and as long as it likes.
TEST_F(SlurmExecutorTest, ARefusalThatIsNotUtf8IsTold) {
  mode("latin1");
  auto slurm = executor();
  const auto wanted = requests(1);
  const auto problems = start(slurm, wanted);
  ASSERT_EQ(problems.size(), 1u);
  EXPECT_THAT(problems[0], testing::HasSubstr("refus\\xE9"));
  workspace.write_outcome(wanted[0].stage->key, 1, {"failed", "exited", problems[0]});
  EXPECT_EQ(workspace.outcome(wanted[0].stage->key, 1)->reason, problems[0]);
}

}  // namespace
}  // namespace filo
