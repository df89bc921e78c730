// Slurm's commands as this makes them up, so that each of a controller's bad days can be had at will. tests/slurm runs
// the executor on a real cluster.
#pragma once

#include <gtest/gtest.h>

#include <cstdio>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "scheduler/executors/slurm_executor.hpp"
#include "tests/unit/support/scratch.hpp"

namespace filo {

// A queue in a file, a line a job as squeue prints it; `mode` says how sbatch and squeue behave.
inline constexpr const char* fake_sbatch = R"sh(#!/bin/bash
here=$(dirname "$0")
echo sbatch >>"$here/calls"
printf '%s\n' "$@" >"$here/arguments"
mode=$(cat "$here/mode" 2>/dev/null)
case $mode in
  refuse) echo "sbatch: error: Batch job submission failed: Invalid partition name specified" >&2; exit 1 ;;
  latin1) printf 'sbatch: error: %0480d refus\xe9 par le contr\xf4leur\n' 0 >&2; exit 1 ;;
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
  for index in $indices; do echo "$id|$index|PENDING|0|0|N/A|N/A|JobHeldUser||$name|"; done >>"$here/queue"
else
  echo "$id|N/A|PENDING|0|0|N/A|N/A|JobHeldUser||$name|" >>"$here/queue"
fi
[ "$mode" != late ] || { echo "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation" >&2; exit 1; }
echo "$id"
)sh";
inline constexpr const char* fake_squeue = R"sh(#!/bin/bash
here=$(dirname "$0")
echo squeue >>"$here/calls"
[ "$(cat "$here/mode" 2>/dev/null)" != down ] || { echo "slurm_load_jobs error: Unable to contact slurm controller (connect failure)" >&2; exit 1; }
[ "$(cat "$here/mode" 2>/dev/null)" != silent ] || sleep 60
cat "$here/queue" 2>/dev/null || true
)sh";
inline constexpr const char* fake_scontrol = R"sh(#!/bin/bash
here=$(dirname "$0")
echo "scontrol $*" >>"$here/calls"
if [ "$1 $2" = "show config" ]; then
  printf 'MaxArraySize            = 401\nMessageTimeout          = 0 sec\nAccountingStorageType   = %s\n' "$(cat "$here/accounting" 2>/dev/null || echo accounting_storage/none)"
else
  sed -i 's/|PENDING|0|0|N\/A|N\/A|JobHeldUser||/|RUNNING|0|0|1000|2000|None|n1|/' "$here/queue"
fi
)sh";
inline constexpr const char* fake_scancel = R"sh(#!/bin/bash
here=$(dirname "$0")
echo "scancel $*" >>"$here/calls"
)sh";
// A partition of four nodes, which is the default, and another one.
inline constexpr const char* fake_sinfo = R"sh(#!/bin/bash
echo "sinfo $*" >>"$(dirname "$0")/calls"
printf 'n1|batch*\nn2|batch*\nn3|batch*\nn4|batch*\nn4|long\nn9|long\n'
)sh";
inline constexpr const char* fake_sacct = R"sh(#!/bin/bash
cat "$(dirname "$0")/accounted"
)sh";

class SlurmExecutorTest : public ::testing::Test {
 protected:
  SlurmExecutorTest() : workspace(scratch.folder / "workspace"), bin(scratch.folder / "bin") {
    for (const auto& [name, text] : std::map<std::string, const char*>{{"sbatch", fake_sbatch},
                                                                       {"squeue", fake_squeue},
                                                                       {"scontrol", fake_scontrol},
                                                                       {"scancel", fake_scancel},
                                                                       {"sinfo", fake_sinfo},
                                                                       {"sacct", fake_sacct}}) {
      scratch.write("bin/" + name, text);
      std::filesystem::permissions(bin / name, std::filesystem::perms::owner_all);
    }
    settings.name = "test";
    settings.slurm_bin = bin.string();
    settings.command_timeout_s = 2;
    settings.message_timeout_s = 0.1;
    settings.result_grace_s = 0;
    settings.bad_nodes.health_check = false;
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
      std::filesystem::create_directories(workspace.stage_folder(key) / "attempts");
      made.push_back({stages.back().get(), workspace.make_attempt(key), resources});
    }
    return made;
  }

  SlurmExecutor executor() { return SlurmExecutor(workspace, settings, "/opt/filo-worker", scratch.folder); }

  static std::vector<std::string> start(SlurmExecutor& executor, const std::vector<StartRequest>& wanted) {
    return executor.start(wanted, executor.prepare(wanted));
  }

  void mode(const std::string& name) { scratch.write("bin/mode", name); }
  std::string text(const std::string& name) { return std::filesystem::exists(bin / name) ? read_file(bin / name) : ""; }
  std::vector<std::string> calls(const std::string& command = "") {
    std::vector<std::string> lines;
    std::istringstream stream(text("calls"));
    for (std::string line; std::getline(stream, line);)
      if (line.starts_with(command)) lines.push_back(line);
    return lines;
  }
  // Every job's state becomes `state`, on node n1.
  void all_become(const std::string& state, int wait_status = 0, int seconds = 1000) {
    std::string queue;
    std::istringstream stream(text("queue"));
    for (std::string line; std::getline(stream, line);) {
      auto fields = split_fields(line, 10);
      fields[2] = state;
      fields[3] = std::to_string(wait_status);
      fields[6] = std::to_string(1000 + seconds);
      for (const auto& field : fields) queue += field + "|";
      queue += "\n";
    }
    scratch.write("bin/queue", queue);
  }
  std::vector<std::filesystem::path> records() {
    std::vector<std::filesystem::path> found;
    for (const auto& entry : std::filesystem::directory_iterator(workspace.root() / "slurm/batches"))
      if (entry.path().extension() == ".json") found.push_back(entry.path());
    return found;
  }

  Scratch scratch;
  Workspace workspace;
  std::filesystem::path bin;
  ClusterSettings settings;
  std::vector<std::unique_ptr<PlannedStage>> stages;
};

}  // namespace filo
