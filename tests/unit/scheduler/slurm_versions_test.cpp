// What Slurm's commands printed, version by version, and what is made of it: testdata/slurm/VERSION.txt. A block's
// input is one recorded output, its word exit= how the command ended ("killed": it went on until it was ended).
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <map>
#include <sstream>

#include "scheduler/executors/doctor/doctor.hpp"
#include "scheduler/executors/slurm_commands.hpp"
#include "scheduler/executors/slurm_queue.hpp"
#include "tests/unit/support/scratch.hpp"
#include "tests/unit/support/transcript.hpp"

namespace filo {
namespace {

// Prints the recorded output of the command that it is called as. Where squeue's and sacct's was recorded with a first
// line that names the columns, it prints those that it is asked for.
constexpr const char* replay = R"sh(#!/bin/bash
here=$(dirname "$0") name=$(basename "$0")
case "$name $1" in
  *' --version') name=version ;;
  'scontrol '*) name=scontrol-$1 ;;
esac
[ -e "$here/$name.exit" ] || exit 1
columns= suffix= allocations=
for word; do
  case $word in
    --Format=*) columns=${word#*=} suffix='|' ;;
    --format=*) columns=${word#*=} ;;
    --allocations) allocations=1 ;;
  esac
done
if [ "$(cat "$here/$name.exit")" = 0 ] && { [ "$name" = squeue ] || [ "$name" = sacct ]; }; then
  awk -v columns="$columns" -v suffix="$suffix" -v allocations="$allocations" '
    NR == 1 { many = split($0, names, "|"); asked = split(columns, wanted, /:\|,?|,/); next }
    {
      for (i = 1; i < many; i++) { at = index($0, "|"); value[names[i]] = substr($0, 1, at - 1); $0 = substr($0, at + 1) }
      value[names[many]] = $0
      if (allocations && value["JobID"] ~ /[.]/) next
      line = ""
      for (i = 1; i <= asked; i++) if (wanted[i] != "") line = line (i == 1 ? "" : "|") value[wanted[i]]
      print line suffix
    }' "$here/$name.output"
else
  cat "$here/$name.output"
fi
[ "$(cat "$here/$name.exit")" != killed ] || sleep 60
exit "$(cat "$here/$name.exit")"
)sh";

std::string told(const SlurmJob& job) {
  std::string text = job.label() + " " + job.state;
  if (job.has_ended()) {
    text += " ended: " + to_string(cause_of(job)) + ", exit code " + std::to_string(job.exit_code);
    if (job.signal != 0) text += ", signal " + std::to_string(job.signal);
  } else {
    text += job.is_pending() ? " pending" : " on a node";
    if (job.is_pending() && job.reason == "JobHeldUser") text += ", held";
    if (never_launches(job)) text += ", never launches";
  }
  if (job.restarts > 0) text += ", restarts " + std::to_string(job.restarts);
  if (!job.nodes.empty()) text += ", on " + job.nodes;
  return text + ", " + job.name + "\n";
}

// Of the list of all states that there are: which of them mean what.
std::string told_states(const std::string& list) {
  std::map<std::string, std::string> meanings;
  std::istringstream states(list.substr(list.rfind(' ') + 1));
  for (std::string state; std::getline(states, state, ',');) {
    while (std::isspace(static_cast<unsigned char>(state.back())) != 0) state.pop_back();
    // 24.11 and newer print this list, but no queue, in small letters.
    std::transform(state.begin(), state.end(), state.begin(), [](unsigned char c) { return std::toupper(c); });
    const SlurmJob job{.state = state};
    const std::string meaning = job.has_ended()    ? "ended, " + to_string(cause_of(job))
                                : job.is_pending() ? "pending"
                                                   : "on a node";
    meanings[meaning] += " " + state;
  }
  std::string text;
  for (const auto& [meaning, names] : meanings) text += meaning + ":" + names + "\n";
  return text;
}

std::string told(const std::vector<SlurmJob>& jobs) {
  std::string text;
  for (const auto& job : jobs) text += told(job);
  return text;
}

class Replay {
 public:
  Replay() {
    settings_.name = "test";
    settings_.slurm_bin = (scratch_.folder / "bin").string();
    for (const char* program : {"sbatch", "squeue", "scancel", "scontrol", "sacct", "sinfo", "srun"}) {
      scratch_.write(std::string("bin/") + program, replay);
      std::filesystem::permissions(scratch_.folder / "bin" / program, std::filesystem::perms::owner_all);
    }
  }

  TranscriptCommands commands() {
    using Block = TranscriptBlock;
    return {
        {"squeue", [this](const Block& block) { return told(slurm("squeue", block).queue()); }},
        {"states", [](const Block& block) { return told_states(block.input); }},
        {"sacct", [this](const Block& block) { return told(slurm("sacct", block).accounted({"1"})); }},
        {"sbatch", [this](const Block& block) { return submission(block); }},
        {"release",
         [this](const Block& block) {
           return problem(slurm("scontrol-release", block).release({"1", "2"}));
         }},
        {"scancel", [this](const Block& block) { return problem(slurm("scancel", block).cancel({"1"})); }},
        {"signal",
         [this](const Block& block) { return problem(slurm("scancel", block).signal_batch_script("USR2", {"1"})); }},
        {"version", [this](const Block& block) { return check("version", block, "Slurm's commands"); }},
        {"ping", [this](const Block& block) { return check("scontrol-ping", block, "controller"); }},
        {"sinfo", [this](const Block& block) { return check("sinfo", block, "partition"); }},
        {"config", [this](const Block& block) { return check("scontrol-show", block, "limits"); }},
        {"mpi", [this](const Block& block) { return check("srun", block, "srun --mpi"); }},
    };
  }

 private:
  SlurmCommands slurm(const std::string& command, const TranscriptBlock& block) {
    scratch_.write("bin/" + command + ".output", block.input);
    scratch_.write("bin/" + command + ".exit", block.value("exit", "0"));
    settings_.command_timeout_s = block.value("exit") == "killed" ? 0.5 : 20;
    return SlurmCommands(settings_);
  }

  std::string submission(const TranscriptBlock& block) {
    const auto answer = slurm("sbatch", block).submit({"script"});
    switch (answer.outcome) {
      case SlurmSubmission::Outcome::taken:
        return "taken " + std::to_string(answer.id);
      case SlurmSubmission::Outcome::refused:
        return "refused: " + answer.message;
      case SlurmSubmission::Outcome::full:
        return "full: " + answer.message;
      case SlurmSubmission::Outcome::uncertain:
        return "uncertain: " + answer.message;
    }
    return "";
  }

  static std::string problem(const std::string& text) { return text.empty() ? "no problem" : "problem: " + text; }

  // What doctor says of one thing, after what was recorded of the others before.
  std::string check(const std::string& command, const TranscriptBlock& block, const std::string& name) {
    settings_.launcher = LauncherProgram::srun;
    settings_.mpi = block.value("wanted");
    slurm(command, block);
    for (const auto& check : check_cluster(settings_, scratch_.folder, "filo-worker", 0))
      if (check.name == name) {
        const std::string found = check.found.substr(0, check.found.find(", answers in"));
        return to_string(check.verdict) + ": " + found + (check.mend.empty() ? "" : "\n" + check.mend);
      }
    return "good";
  }

  Scratch scratch_;
  ClusterSettings settings_;
};

class SlurmVersions : public ::testing::TestWithParam<std::filesystem::path> {};

TEST_P(SlurmVersions, WhatTheCommandsPrintedIsUnderstood) {
  Replay replayed;
  run_transcript(GetParam(), replayed.commands());
}

INSTANTIATE_TEST_SUITE_P(Recorded, SlurmVersions,
                         ::testing::ValuesIn(transcripts_in(std::filesystem::path(FILO_SOURCE_DIR) /
                                                            "tests/unit/scheduler/testdata/slurm")),
                         transcript_name);

}  // namespace
}  // namespace filo
