#include "scheduler/control/other_hands.hpp"

#include <algorithm>
#include <set>

#include "base/error.hpp"
#include "scheduler/executors/slurm_queue.hpp"
#include "scheduler/executors/slurm_records.hpp"
#include "scheduler/executors/slurm_submit.hpp"
#include "workspace/server_file.hpp"

namespace filo {
namespace {

constexpr auto between_questions = std::chrono::seconds(30);
constexpr double most_wait_s = 5;
constexpr const char* taken_back = "; filo cancel ends them there, and filo run then starts them here";

std::string without_numbers(std::string text) {
  std::erase_if(text, [](char c) { return c >= '0' && c <= '9'; });
  return text;
}

std::string state_of(const SlurmBatch& batch, const SlurmJob* row) {
  if (row == nullptr) return batch.state == SlurmBatch::State::submitted ? "no longer in the queue" : "not sent yet";
  if (row->has_ended()) return "ended";
  if (!row->is_pending()) return "running";
  return "pending" + (row->reason.empty() || row->reason == "None" ? "" : ": " + row->reason);
}

}  // namespace

const Json& OtherHands::claim_of(const StageStatus& status) {
  Json& claim = claims_[{status.key, status.attempt}];
  if (!claim.is_object()) claim = workspace_.claim(status.key, status.attempt).value_or(Json::object());
  return claim;
}

OtherHands::Queue OtherHands::ask(const std::string& executor) const {
  Queue answer{.asked = std::chrono::steady_clock::now()};
  for (const auto& experiment : workspace_.active_experiments()) {
    if (experiment.executor != "slurm") continue;
    try {
      ClusterSettings settings = load_cluster_settings(experiment.cluster);
      if ("slurm " + settings.name != executor) continue;
      answer.active = true;
      settings.command_timeout_s = std::min(settings.command_timeout_s, most_wait_s);
      const SlurmQueue queue(SlurmCommands(settings).queue());
      for (const SlurmJob* row : queue.named(watch_name(workspace_, settings)))
        if (!row->has_ended() && (answer.watch.empty() || !row->is_pending())) answer.watch = "job " + row->label();
      for (const auto& batch : read_slurm_batches(workspace_, settings.name)) {
        const SlurmBatchRows rows = rows_of_batch(queue, batch);
        answer.jobs[batch.name] = rows.job_id;
        for (std::size_t i = 0; i < batch.entries.size(); ++i)
          answer.states[{batch.entries[i].stage, batch.entries[i].attempt}] =
              state_of(batch, rows.at(static_cast<int>(i)));
      }
      answer.problem.clear();
      break;
    } catch (const Error& error) {
      answer.problem = error.what();
    }
  }
  return answer;
}

const OtherHands::Queue& OtherHands::queue_of(const std::string& executor) {
  Queue& known = queues_[executor];
  const bool asked = known.asked != std::chrono::steady_clock::time_point();
  if (!asked || std::chrono::steady_clock::now() - known.asked > between_questions) known = ask(executor);
  return known;
}

// And what can be done: a request to cancel waits for a pass too.
std::string OtherHands::what_moves(const Queue& queue) const {
  if (!queue.active && queue.problem.empty())
    return "nothing moves them, since no active experiment is on this cluster: filo submit FILE --cluster FILE hands "
           "the experiment over again";
  if (const auto url = server_url(workspace_)) return "filo serve at " + *url + " moves them" + taken_back;
  if (!queue.watch.empty()) return "its watch, " + queue.watch + ", moves them" + taken_back;
  if (!queue.problem.empty())
    return "its watch moves them, if there is one, or filo reconcile, on a host where its queue can be asked (here: " +
           queue.problem + ")" + taken_back;
  return "nothing is known to move them, neither a watch nor filo serve: filo reconcile --workspace " +
         workspace_.root().string() + " does, once or in cron" + taken_back;
}

std::string OtherHands::on_cluster(const std::string& executor, const std::vector<const StageStatus*>& stages) {
  const Queue& queue = queue_of(executor);
  std::set<std::string> batches;
  std::map<std::string, std::size_t> states;
  for (const StageStatus* status : stages) {
    batches.insert(text_of(claim_of(*status), "batch"));
    const auto state = queue.states.find({status->key, status->attempt});
    if (state != queue.states.end()) ++states[state->second];
  }
  std::string text = " (batch " + *batches.begin();
  if (batches.size() > 1) text += " and " + std::to_string(batches.size() - 1) + " more";
  const auto job = queue.jobs.find(*batches.begin());
  if (job != queue.jobs.end() && job->second != 0) text += ", job " + std::to_string(job->second);
  for (const auto& [state, count] : states) text += ", " + std::to_string(count) + " " + state;
  return text + "); " + what_moves(queue);
}

std::vector<std::string> OtherHands::news(const std::vector<StageStatus>& statuses) {
  std::map<std::string, std::vector<const StageStatus*>> hands;
  std::map<std::string, bool> on_clusters;
  for (const auto& status : statuses) {
    if (!status.elsewhere) continue;
    const Json& claim = claim_of(status);
    const std::string executor = text_of(claim, "executor", "local");
    const std::string who = executor != "local" ? executor
                                                : "process " + claim.value("pid", Json()).dump() + " on " +
                                                      text_of(claim, "host", "another host");
    hands[who].push_back(&status);
    on_clusters[who] = executor != "local";
  }
  std::vector<std::string> lines;
  std::map<std::string, std::string> told;
  for (const auto& [who, stages] : hands) {
    const std::string line = std::to_string(stages.size()) + (stages.size() == 1 ? " stage is" : " stages are") +
                             " in the hands of " + who +
                             (on_clusters[who] ? on_cluster(who, stages)
                                               : std::string(", which moves them as long as it lives") + taken_back);
    told[who] = without_numbers(line.substr(line.find(" in the hands")));
    if (told_[who] != told[who]) lines.push_back(line);
  }
  told_ = std::move(told);
  return lines;
}

}  // namespace filo
