// The rules of a pass: testdata/reconcile/*.txt. The commands:
//
//   stages
//     One a line: NAME [<- INPUT...] [KEY=VALUE...]. The name begins with the stage's kind; the keys are limits
//     (failures, requeues, timeouts) and resources (time, memory).
//
//   pass [no-start], kill POINT, observe
//     A pass; one that is killed (kill -9) at a failpoint, with all that its process ran; the states by the files
//     alone. Prints what the pass did ("> STAGE: ..."), what it asked of the executor, and the stages: NAME STATE
//     ATTEMPT [LIMITS] @WHERE: REASON.
//
//   process NAME, dies NAME
//     The passes that follow are another process's, while those before it live on; a process and all that it ran is
//     gone.
//
//   executor [room=N] [longest=TIME] [grace=SECONDS] [refuse | accept] [silent | answering]
//     How many it runs at once, what it allows, how long results may take to appear, whether it starts what it is
//     given, whether it answers.
//
//   exit STAGE CODE, signal STAGE NUMBER, end STAGE CAUSE
//     A job ends.
//
//   result STAGE [attempt=N], finish STAGE | all
//     The worker writes result.json; and exits 0.
//
//   waited STAGE SECONDS
//     As if the newest attempt's result had been waited for so long.
//
//   event STAGE
//     The input becomes the attempt's events.jsonl.
//
//   lists STAGE [attempt=N] [state=pending] [where=TEXT]
//     The executor lists a job that this process did not start.
//
//   request STAGE ACTION REASON, retry STAGE
//     Writes request.json, or retry.json.
//
//   ends STAGE
//     Prints the latest end.json.
#include <gtest/gtest.h>

#include <sstream>

#include "scheduler/control/reconcile.hpp"
#include "tests/unit/support/fake_executor.hpp"
#include "tests/unit/support/scratch.hpp"
#include "tests/unit/support/transcript.hpp"

namespace filo {
namespace {

struct Killed {};  // stands for kill -9: not a filo::Error, so nothing handles it

class Story {
 public:
  Story() : workspace_(scratch_.workspace()) { begin_process("first"); }

  TranscriptCommands commands() {
    TranscriptCommands all;
    const auto add = [&](const std::string& name, std::string (Story::*command)(const TranscriptBlock&)) {
      all[name] = [this, command](const TranscriptBlock& block) { return (this->*command)(block); };
    };
    add("stages", &Story::stages);
    add("pass", &Story::pass);
    add("kill", &Story::kill_at);
    add("process", &Story::process);
    add("dies", &Story::dies);
    add("executor", &Story::set_executor);
    add("exit", &Story::exit);
    add("end", &Story::end);
    add("signal", &Story::signal);
    add("result", &Story::result);
    add("finish", &Story::finish);
    add("waited", &Story::waited);
    add("event", &Story::event);
    add("lists", &Story::lists);
    add("request", &Story::request);
    add("retry", &Story::retry);
    add("ends", &Story::ends);
    add("observe", &Story::observe_all);
    return all;
  }

 private:
  std::string stages(const TranscriptBlock& block) {
    std::istringstream lines(block.input);
    for (std::string line; std::getline(lines, line);) {
      PlannedStage stage;
      std::istringstream words(line);
      words >> stage.label;
      stage.key = key_number_of(plan_.stages.size() + 1);
      for (const auto kind : {StageKind::features, StageKind::boxes, StageKind::train, StageKind::evaluate})
        if (stage.label.starts_with(to_string(kind))) stage.kind = kind;
      for (std::string word; words >> word;) {
        const auto equals = word.find('=');
        const std::string name = word.substr(0, equals), value = word.substr(equals + 1);
        if (name == "failures") stage.resources.attempts.failures = std::stoi(value);
        if (name == "requeues") stage.resources.attempts.requeues = std::stoi(value);
        if (name == "timeouts") stage.resources.attempts.timeouts = std::stoi(value);
        if (name == "time") stage.resources.time = value;
        if (name == "memory") stage.resources.memory = value;
        if (equals == std::string::npos && word != "<-") stage.inputs.push_back(key(word));
      }
      workspace_.create_stage(stage.key, {{"kind", to_string(stage.kind)}});
      plan_.stages.push_back(std::move(stage));
    }
    return "";
  }

  std::string pass(const TranscriptBlock& block) {
    ReconcileOptions options;
    options.start_new = !block.has("no-start");
    return run_pass(options);
  }

  std::string kill_at(const TranscriptBlock& block) {
    std::string point;
    for (const auto& word : block.words) point += (point.empty() ? "" : " ") + word;
    ReconcileOptions options;
    options.at_point = [&](std::string_view name) {
      if (name == point) throw Killed();
    };
    try {
      return run_pass(options) + "was not killed\n";
    } catch (const Killed&) {
      begin_process(current_);  // its successor: without children
      return "";
    }
  }

  std::string run_pass(const ReconcileOptions& options) {
    FakeExecutor& executor = *processes_.at(current_);
    executor.alive_owner.clear();
    for (const auto& [name, other] : processes_)
      if (name != current_) executor.alive_owner = name;
    executor.stopped.clear();
    executor.killed.clear();
    std::vector<StageAssignment> assignments;
    for (const auto& stage : plan_.stages) assignments.push_back({&stage, &executor, nullptr});
    const PassResult result = reconcile(workspace_, assignments, {&executor}, options);
    std::string text;
    for (const auto& trouble : result.troubles) text += "! " + trouble + "\n";
    for (const auto& action : result.actions)
      text += "> " + label(action.stage) + ": " + action.text + given(action) + "\n";
    for (const auto& attempt : executor.stopped) text += "stop " + asked(attempt) + "\n";
    for (const auto& attempt : executor.killed) text += "kill " + asked(attempt) + "\n";
    return text + describe(result.statuses);
  }

  // What an attempt that was started got, where that is not what its stage asks for.
  std::string given(const PassAction& action) const {
    if (!action.text.starts_with("started")) return "";
    const ResourceSettings& got = processes_.at(current_)->given.at(action.stage);
    const ResourceSettings& wanted = plan_.stage(action.stage).resources;
    std::string text;
    if (got.time != wanted.time) text += ", with " + got.time;
    if (got.memory != wanted.memory) text += ", with " + got.memory;
    return text;
  }

  std::string describe(const std::vector<StageStatus>& statuses) const {
    std::string text;
    for (const auto& status : statuses) {
      text += label(status.key) + " " + to_string(status.state);
      if (status.attempt > 0) text += " " + std::to_string(status.attempt);
      const std::string limits = limits_used(status.counts, plan_.stage(status.key).resources.attempts);
      if (!limits.empty()) text += " [" + limits + "]";
      if (!status.where.empty()) text += " @" + status.where;
      if (!status.reason.empty()) text += ": " + with_labels(status.reason);
      text += "\n";
    }
    return text;
  }

  std::string process(const TranscriptBlock& block) {
    current_ = block.words.at(0);
    if (!processes_.contains(current_)) begin_process(current_);
    return "";
  }

  std::string dies(const TranscriptBlock& block) {
    processes_.erase(block.words.at(0));
    return "";
  }

  std::string set_executor(const TranscriptBlock& block) {
    FakeExecutor& executor = *processes_.at(current_);
    executor.room = std::stoi(block.value("room", std::to_string(executor.room)));
    executor.longest = block.value("longest", executor.longest);
    executor.grace_s = std::stod(block.value("grace", std::to_string(executor.grace_s)));
    if (block.has("refuse") || block.has("accept")) executor.refuse = block.has("refuse");
    if (block.has("silent") || block.has("answering")) executor.silent = block.has("silent");
    return "";
  }

  std::string exit(const TranscriptBlock& block) {
    processes_.at(current_)->end(key(block.words.at(0)), std::stoi(block.words.at(1)));
    return "";
  }

  std::string end(const TranscriptBlock& block) {
    for (const EndCause cause : {EndCause::timeout, EndCause::out_of_memory, EndCause::node_failure,
                                 EndCause::preempted, EndCause::cancelled, EndCause::vanished})
      if (to_string(cause) == block.words.at(1)) {
        processes_.at(current_)->end(key(block.words[0]), 0, cause);
        return "";
      }
    throw Error("transcript", "found the cause " + block.words[1]);
  }

  std::string signal(const TranscriptBlock& block) {
    processes_.at(current_)->end(key(block.words.at(0)), 0, EndCause::signalled, std::stoi(block.words.at(1)));
    return "";
  }

  std::string result(const TranscriptBlock& block) {
    const PlannedStage& stage = plan_.stage(key(block.words.at(0)));
    const int newest = workspace_.newest_attempt(stage.key);
    write_result(workspace_, stage.key, stage.kind, std::stoi(block.value("attempt", std::to_string(newest))));
    return "";
  }

  // As if the newest attempt's result had been waited for so long.
  std::string waited(const TranscriptBlock& block) {
    const std::string stage = key(block.words.at(0));
    std::filesystem::last_write_time(
        workspace_.awaited_file(stage, workspace_.newest_attempt(stage)),
        std::filesystem::file_time_type::clock::now() - std::chrono::seconds(std::stoi(block.words.at(1))));
    return "";
  }

  std::string finish(const TranscriptBlock& block) {
    FakeExecutor& executor = *processes_.at(current_);
    for (const Job& job : executor.jobs()) {
      if (job.state == JobState::ended || (!block.has("all") && job.stage != key(block.words.at(0)))) continue;
      write_result(workspace_, job.stage, plan_.stage(job.stage).kind, job.attempt);
      executor.end(job.stage, 0);
    }
    return "";
  }

  std::string event(const TranscriptBlock& block) {
    const std::string stage = key(block.words.at(0));
    write_file_atomically(workspace_.events_file(stage, workspace_.newest_attempt(stage)), block.input);
    return "";
  }

  std::string lists(const TranscriptBlock& block) {
    const std::string stage = key(block.words.at(0));
    const int attempt = std::stoi(block.value("attempt", "1"));
    if (workspace_.newest_attempt(stage) < attempt) workspace_.make_attempt(stage);
    processes_.at(current_)->list({.stage = stage,
                                   .attempt = attempt,
                                   .state = block.value("state") == "pending" ? JobState::pending : JobState::running,
                                   .where = block.value("where")});
    return "";
  }

  std::string request(const TranscriptBlock& block) {
    std::string reason;
    for (std::size_t i = 2; i < block.words.size(); ++i) reason += (reason.empty() ? "" : " ") + block.words[i];
    workspace_.write_request(key(block.words.at(0)), {block.words.at(1), reason});
    return "";
  }

  std::string retry(const TranscriptBlock& block) {
    workspace_.retry(key(block.words.at(0)));
    return "";
  }

  std::string ends(const TranscriptBlock& block) {
    const std::string stage = key(block.words.at(0));
    for (int attempt = workspace_.newest_attempt(stage); attempt > 0; --attempt)
      if (const auto end = workspace_.outcome(stage, attempt))
        return std::to_string(attempt) + " " + end->outcome + " " + end->cause +
               (end->reason.empty() ? "" : ": " + end->reason);
    return "none";
  }

  std::string observe_all(const TranscriptBlock&) { return describe(observe(workspace_, plan_)); }

  void begin_process(const std::string& name) {
    current_ = name;
    processes_[name] = std::make_unique<FakeExecutor>(name);
  }

  static std::string key_number_of(std::size_t number) {
    char text[24];
    std::snprintf(text, sizeof text, "%016zx", number);
    return text;
  }

  std::string key(const std::string& label) const {
    for (const auto& stage : plan_.stages)
      if (stage.label == label) return stage.key;
    throw Error("transcript", "found the stage " + label + ", which there is not");
  }
  std::string label(const std::string& key) const { return plan_.stage(key).label; }
  std::string asked(const std::string& key_and_attempt) const {
    return label(key_and_attempt.substr(0, 16)) + key_and_attempt.substr(16);
  }
  std::string with_labels(std::string text) const {
    for (const auto& stage : plan_.stages)
      if (const auto at = text.find(" (" + stage.key + ")"); at != std::string::npos) text.erase(at, 19);
    return text;
  }

  Scratch scratch_;
  Workspace workspace_;
  Plan plan_;
  std::string current_;
  std::map<std::string, std::unique_ptr<FakeExecutor>> processes_;
};

class ReconcileTranscript : public ::testing::TestWithParam<std::filesystem::path> {};

TEST_P(ReconcileTranscript, IsAsWritten) {
  Story story;
  run_transcript(GetParam(), story.commands());
}

INSTANTIATE_TEST_SUITE_P(Cases, ReconcileTranscript,
                         ::testing::ValuesIn(transcripts_in(std::filesystem::path(FILO_SOURCE_DIR) /
                                                            "tests/unit/scheduler/testdata/reconcile")),
                         transcript_name);

}  // namespace
}  // namespace filo
