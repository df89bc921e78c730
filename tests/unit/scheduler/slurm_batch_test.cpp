// The batch script, run by bash itself, and sbatch's arguments.
#include "scheduler/executors/slurm_batch.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <thread>

#include "base/error.hpp"
#include "base/process.hpp"
#include "scheduler/executors/bad_nodes.hpp"
#include "scheduler/executors/slurm_launch.hpp"
#include "scheduler/executors/slurm_submit.hpp"
#include "tests/unit/support/fake_slurm.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

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
                     .resources = resources,
                     .entries = {{.stage = "00000000000000bb", .attempt = 1}, {.stage = key, .attempt = 1}},
                     .message = {}};
    batch.entries[1].inputs = std::move(inputs);
    return scratch.write("batch script.sh", slurm_script(batch, settings, *chosen, worker));
  }

  Process run(const fs::path& file) {
    return Process({.arguments = {"bash", file.string()},
                    .environment = {{"SLURM_JOB_ID", "12"},
                                    {"SLURMD_NODENAME", "n7"},
                                    {"SLURM_ARRAY_TASK_ID", "1"},
                                    {"SBATCH_PARTITION", "x"}}});
  }
  std::string log() { return read_file(chosen->log_file("00000000000000aa", 1)); }
  std::string left() { return read_file(chosen->attempt_folder("00000000000000aa", 1) / "exit.txt"); }

  // The script ends as the health check does, having said why.
  void expect_refused(const std::string& why) {
    EXPECT_EQ(run(script("w", "echo it ran\n")).wait().exit_code, unhealthy_node_exit) << why;
    EXPECT_THAT(log(), AllOf(HasSubstr("filo: the node n7 is not fit for work: " + why), Not(HasSubstr("it ran"))));
    EXPECT_THAT(left(), StartsWith("12 0 69 n7 "));
    fs::remove_all(chosen->root());
  }

  // Stands in for a container's runtime: tells its arguments, then runs what follows the image.
  void stand_in(const std::string& name) {
    scratch.write(
        "bin/" + name,
        "#!/bin/bash\nprintf '(%s)' \"$@\"\nuntil [ \"$1\" = /img.sif ]; do shift; done\nshift\nexec \"$@\"\n");
    fs::permissions(bin / name, fs::perms::owner_all);
    settings.prologue = {"PATH='" + bin.string() + "':$PATH"};
  }

  ResourceSettings resources;
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
  EXPECT_THAT(left(), StartsWith("12 0 3 n7 "));
}

// Guards the same for the watch: a line break in the workspace's path is no end of a comment.
TEST_F(SlurmScriptTest, NoPathIsRunByTheWatch) {
  for (const std::string name : {"\ntouch touched #", "'; touch touched; '", "$(touch touched)", "`touch touched`",
                                 "\" touch touched", "-n  *\t\xc3\xa4"}) {
    fs::remove("touched");
    const Workspace named(scratch.folder / name);
    fs::create_directories(named.slurm_folder());
    const std::string filo =
        scratch.write("it's \"filo\"", "#!/bin/bash\nprintf '%s' \"$3\" >\"$0.given\"\necho '\"settled\": true'\n");
    fs::permissions(filo, fs::perms::owner_all);
    EXPECT_EQ(run(scratch.write("watch.sh", watch_script(named, settings, filo, filo))).wait().exit_code, 0) << name;
    EXPECT_EQ(read_file(filo + ".given"), named.root().string());
    EXPECT_FALSE(fs::exists("touched")) << name;
  }
}

// Guards the workspace: a watch that lives for months, and is killed now and then, leaves nothing behind.
TEST_F(SlurmScriptTest, TheWatchWritesNothing) {
  chosen = std::make_unique<Workspace>(scratch.folder / "w");
  fs::create_directories(chosen->slurm_folder());
  const std::string filo = scratch.write(
      "filo-that-looks", "#!/bin/bash\nls -A \"$3/slurm\" >\"$0.seen\"\necho ' \"settled\": true,'\nexit 1\n");
  fs::permissions(filo, fs::perms::owner_all);
  EXPECT_EQ(run(scratch.write("watch.sh", watch_script(*chosen, settings, filo, filo))).wait().exit_code, 1);
  EXPECT_EQ(read_file(filo + ".seen"), "");
}

// Guards: a pass that failed outright is no end of the work, but at the first pass.
TEST_F(SlurmScriptTest, TheWatchGoesOnAfterAFailedPass) {
  chosen = std::make_unique<Workspace>(scratch.folder / "w");
  settings.watch_interval_s = 0.01;
  const std::string filo = scratch.write("filo-that-fails",
                                         "#!/bin/bash\necho pass >>\"$0.passes\"\ncase $(wc -l <\"$0.passes\") in\n"
                                         "1) echo '\"settled\": false' ;;\n2) echo '\"settled\": true'; exit 2 ;;\n"
                                         "*) echo '\"settled\": true' ;; esac\n");
  fs::permissions(filo, fs::perms::owner_all);
  EXPECT_EQ(run(scratch.write("watch.sh", watch_script(*chosen, settings, filo, filo))).wait().exit_code, 0);
  EXPECT_EQ(read_file(filo + ".passes"), "pass\npass\npass\n");
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
  EXPECT_THAT(left(), StartsWith("12 0 75 n7 "));
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
  chosen->write_outcome("00000000000000aa", 1, {"lost", "vanished", "test"});
  EXPECT_EQ(run(file).wait().exit_code, 1);
  EXPECT_THAT(log(), HasSubstr("given up"));
}

// Guards where files appear late: what another host wrote a moment ago is waited for, and the log says so.
TEST_F(SlurmScriptTest, AnInputThatAppearsLateIsWaitedFor) {
  settings.result_grace_s = 60;
  const fs::path file = script("w", "exit 0\n", {"00000000000000cc"});
  Process process = run(file);
  while (!fs::exists(chosen->log_file("00000000000000aa", 1)) ||
         log().find("waiting for up to 60 s") == std::string::npos)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  fs::create_directories(chosen->stage_folder("00000000000000cc"));
  write_result(*chosen, "00000000000000cc", StageKind::features, 1);
  EXPECT_EQ(process.wait().exit_code, 0);
}

// Guards the check before the worker: each kind ends the job with its own code and reason, and a sound node passes.
TEST_F(SlurmScriptTest, ANodeThatIsNotFitForWorkIsRefused) {
  settings.bad_nodes.health_check = true;
  resources = {.ranks = 2, .memory = "1M"};
  EXPECT_EQ(run(script("w", "exit 3\n")).wait().exit_code, 3) << "a sound node";
  fs::remove_all(chosen->root());

  settings.prologue = {"date() { echo 1000; }"};
  expect_refused("its clock is ");
  settings.prologue = {"stat() { return 1; }"};
  expect_refused("the workspace cannot be written");
  settings.prologue = {};

  resources.memory = "4G";  // 4194304 kB
  settings.prologue = {"awk() { echo 3145727; }"};
  expect_refused("3071 MiB of its memory are free, the stage asks for 4096");
  settings.prologue = {"awk() { echo 3145728; }"};
  EXPECT_EQ(run(script("w", "exit 3\n")).wait().exit_code, 3) << "of a whole node's memory the system keeps some";
  fs::remove_all(chosen->root());
  settings.prologue = {"awk() { echo 1; }"};
  settings.memory = MemoryForm::none;
  EXPECT_EQ(run(script("w", "exit 3\n")).wait().exit_code, 3) << "nothing was asked for";
  fs::remove_all(chosen->root());

  resources.gpus = 1;
  settings.prologue = {"PATH='" + bin.string() + "':$PATH"};
  const auto nvidia_smi = [&](const std::string& text) {
    scratch.write("bin/nvidia-smi", "#!/bin/bash\n" + text + "\n");
    fs::permissions(bin / "nvidia-smi", fs::perms::owner_all);
  };
  nvidia_smi("echo 'GPU 0: NVIDIA H100 (UUID: GPU-1)'");
  expect_refused("1 GPUs are visible, the stage asks for 2");
  nvidia_smi("echo 'Unable to determine the device handle for GPU 0000:41:00.0: Unknown Error' >&2; exit 15");
  expect_refused("nvidia-smi fails: Unable to determine the device handle");
  nvidia_smi("echo 'GPU 0: NVIDIA H100 (UUID: GPU-1)'; echo 'GPU 1: NVIDIA H100 (UUID: GPU-2)'");
  EXPECT_EQ(run(script("w", "exit 3\n")).wait().exit_code, 3);
}

// Guards apptainer: the workspace, the folder and the session are mounted, what the settings name too, nothing is run.
TEST_F(SlurmScriptTest, AWorkerRunsInApptainer) {
  stand_in("apptainer");
  resources.gpus = 1;
  settings.container = {.runtime = ContainerRuntime::apptainer,
                        .image = "/img.sif",
                        .mounts = {"/data", "/my $(touch x):/y:ro"},
                        .options = {"--env=A='b c'"}};
  EXPECT_EQ(run(script("w", print_all)).wait().exit_code, 3);
  EXPECT_THAT(log(), HasSubstr("(exec)(--pwd)(" + fs::current_path().string() + ")(--bind=" + chosen->root().string() +
                               ")(--bind=" + fs::current_path().string() + ")(--bind=/"));
  EXPECT_THAT(log(), HasSubstr(")(--bind=/data)(--bind=/my $(touch x):/y:ro)(--nv)(--env=A='b c')(/img.sif)("));
  EXPECT_THAT(log(), HasSubstr("<features><--workspace><" + chosen->root().string() + ">"));
  settings.prologue = {"PATH=/bin:/usr/bin"};
  fs::remove_all(chosen->root());
  EXPECT_EQ(run(script("w", print_all)).wait().exit_code, 1);
  EXPECT_THAT(log(), HasSubstr("found no program apptainer on "));
}

// Guards Pyxis: its options are srun's; both sides of each mount are named.
TEST_F(SlurmScriptTest, AWorkerRunsInPyxis) {
  settings.container = {.runtime = ContainerRuntime::pyxis,
                        .image = "/img.sqsh",
                        .mounts = {"/data", "/a b:/c:ro"},
                        .options = {"--no-container-mount-home"}};
  const fs::path file = script("w", print_all);
  scratch.write("bin/srun",
                "#!/bin/bash\nprintf '(%s)' \"$@\"\nwhile [ \"${1#--}\" != \"$1\" ]; do shift; done\nexec \"$@\"\n");
  fs::permissions(bin / "srun", fs::perms::owner_all);
  EXPECT_EQ(run(file).wait().exit_code, 3);
  const std::string root = chosen->root().string(), here = fs::current_path().string();
  EXPECT_THAT(log(), HasSubstr("(--mpi=pmix)(--container-image=/img.sqsh)(--container-mounts=" + root + ":" + root +
                               "," + here + ":" + here + ",/"));
  EXPECT_THAT(log(),
              HasSubstr(",/data:/data,/a b:/c:ro)(--container-workdir=" + here + ")(--no-container-mount-home)("));
}

// Guards what no runtime can be told of.
TEST_F(SlurmScriptTest, AFolderThatCannotBeMountedIsRefused) {
  settings.container = {.runtime = ContainerRuntime::apptainer, .image = "/img.sif", .mounts = {}, .options = {}};
  EXPECT_NO_THROW(executor());
  EXPECT_THROW(SlurmExecutor(workspace, settings, "filo-worker", scratch.folder / "a,b"), UsageError);
  EXPECT_EQ(worker_on_nodes(settings), "filo-worker");
  settings.worker = "/opt/filo-worker";
  EXPECT_EQ(worker_on_nodes(settings), "/opt/filo-worker");
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

// Guards the token of MLflow: the watch gets it, since its passes tell MLflow; stages do not, and no command line shows
// it.
TEST_F(SlurmScriptTest, OnlyTheWatchGetsTheTokenOfMlflow) {
  const fs::path seen = scratch.folder / "seen";
  scratch.write("bin/sbatch",
                "#!/bin/bash\n{ echo \"${MLFLOW_TRACKING_TOKEN-none} ${SBATCH_PARTITION-none} $HOME\"; tr '\\0' ' ' <"
                "/proc/$PPID/cmdline; } >>" +
                    seen.string() + "\necho 12\n");
  fs::permissions(bin / "sbatch", fs::perms::owner_all);
  setenv("MLFLOW_TRACKING_TOKEN", "a-secret", 1);
  setenv("SBATCH_PARTITION", "elsewhere", 1);
  SlurmCommands commands(settings);
  EXPECT_EQ(commands.submit({"job.sh"}).id, 12);
  EXPECT_EQ(read_file(seen).substr(0, 10), "none none ") << read_file(seen);
  fs::remove(seen);
  EXPECT_EQ(submit_watch(workspace, settings, "filo", "filo-worker", commands), "12");
  EXPECT_THAT(read_file(seen), StartsWith("a-secret none /"));
  EXPECT_THAT(read_file(workspace.slurm_watch_file(settings.name)), Not(HasSubstr("a-secret")));
  unsetenv("MLFLOW_TRACKING_TOKEN");
  unsetenv("SBATCH_PARTITION");
}

}  // namespace
}  // namespace filo
