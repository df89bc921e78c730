#include "scheduler/executors/slurm_commands.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <set>
#include <sstream>
#include <string_view>

#include "base/error.hpp"
#include "base/process.hpp"
#include "base/text.hpp"
#include "base/utf8.hpp"

namespace filo {
namespace {

constexpr std::size_t most_labels = 1000;  // in one command

// Comments and names stand last: they may hold '|'.
const std::string queue_format =
    "ArrayJobID:|,ArrayTaskID:|,State:|,exit_code:|,RestartCnt:|,StartTime:|,EndTime:|,Reason:|,NodeList:|,Name:|";
constexpr std::size_t queue_fields = 10;

long number(const std::string& text) {
  long value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);)
    if (!line.empty()) lines.push_back(printable(line));  // Slurm speaks the site's encoding
  return lines;
}

bool contains_any(const std::string& text, std::initializer_list<const char*> words) {
  return std::any_of(words.begin(), words.end(),
                     [&](const char* word) { return text.find(word) != std::string::npos; });
}

// The most telling line: without the "sbatch: error: " in front.
std::string message_of(const std::string& output) {
  std::string message;
  for (auto line : lines_of(output)) {
    for (const std::string prefix : {"sbatch: ", "squeue: ", "scancel: ", "scontrol: ", "error: "})
      if (line.starts_with(prefix)) line.erase(0, prefix.size());
    message += (message.empty() ? "" : "; ") + line;
  }
  return cut_text(message, 500);
}

bool is_number(const std::string& text) {
  return !text.empty() && text.size() < 12 && text.find_first_not_of("0123456789") == std::string::npos;
}

// "3:0", exit code and signal, by sacct, and by squeue from 23.02 on; before that squeue tells the wait status, "768".
void set_exit(SlurmJob& job, const std::string& text) {
  const auto colon = text.find(':');
  if (colon != std::string::npos) {
    job.exit_code = static_cast<int>(number(text));
    job.signal = static_cast<int>(number(text.substr(colon + 1)));
  } else {
    const auto status = static_cast<int>(number(text));
    job.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    job.exit_code = WEXITSTATUS(status);
  }
}

// What commands start with, and so the jobs. The others are named, not these: values on a command line are for all to
// see.
std::vector<std::string> clean_environment(const std::vector<std::string>& more) {
  std::set<std::string_view> kept = {"HOME",
                                     "USER",
                                     "LOGNAME",
                                     "SHELL",
                                     "LANG",
                                     "LC_ALL",
                                     "TZ",
                                     "PATH",
                                     "LD_LIBRARY_PATH",
                                     "SLURM_CONF",
                                     "SLURM_CONF_SERVER",
                                     "SLURM_JWT"};
  kept.insert(more.begin(), more.end());
  std::vector<std::string> arguments = {"env"};
  for (char** variable = environ; *variable != nullptr; ++variable) {
    const std::string_view name = std::string_view(*variable).substr(0, std::string_view(*variable).find('='));
    if (kept.contains(name) || name.empty()) continue;
    arguments.push_back("-u");
    arguments.emplace_back(name);
  }
  arguments.push_back("SLURM_TIME_FORMAT=%s");
  return arguments;
}

}  // namespace

std::vector<std::string> split_fields(const std::string& line, std::size_t fields) {
  std::vector<std::string> parts;
  std::size_t start = 0;
  while (parts.size() + 1 < fields) {
    const auto bar = line.find('|', start);
    if (bar == std::string::npos) return {};
    parts.push_back(line.substr(start, bar - start));
    start = bar + 1;
  }
  parts.push_back(line.substr(start));
  if (!parts.back().empty() && parts.back().back() == '|') parts.back().pop_back();
  return parts;
}

std::optional<std::int64_t> slurm_seconds(const std::string& text) {
  long days = 0, parts[3] = {};
  int used = 0;
  std::string rest = text;
  if (std::sscanf(text.c_str(), "%ld-%n", &days, &used) == 1 && used > 0)
    rest = text.substr(static_cast<std::size_t>(used));
  else
    days = 0;
  const int count = std::sscanf(rest.c_str(), "%ld:%ld:%ld", &parts[0], &parts[1], &parts[2]);
  if (count < 2) return std::nullopt;
  if (count == 2) return 60 * parts[0] + parts[1];
  return 86400 * days + 3600 * parts[0] + 60 * parts[1] + parts[2];
}

std::string SlurmJob::label() const { return std::to_string(id) + (array ? "_" + std::to_string(index) : ""); }

std::string SlurmJob::node() const {
  return nodes.find_first_of("[,( ") == std::string::npos && nodes != "None" ? nodes : "";
}

bool SlurmJob::has_ended() const {
  static const std::set<std::string> ended = {"BOOT_FAIL", "CANCELLED", "COMPLETED",     "DEADLINE",  "FAILED",
                                              "NODE_FAIL", "REVOKED",   "OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT"};
  return ended.contains(state);
}

bool SlurmJob::is_pending() const {
  static const std::set<std::string> on_a_node = {"RUNNING",   "COMPLETING", "CONFIGURING", "RESIZING",
                                                  "SIGNALING", "STAGE_OUT",  "STOPPED",     "SUSPENDED"};
  return !has_ended() && !on_a_node.contains(state);
}

SlurmCommands::SlurmCommands(const ClusterSettings& settings) : settings_(settings) {}

SlurmCommands::Answer SlurmCommands::run(std::vector<std::string> arguments, std::optional<double> timeout_s,
                                         const std::vector<std::string>& variables) {
  if (!settings_.slurm_bin.empty()) arguments[0] = settings_.slurm_bin + "/" + arguments[0];
  auto all = clean_environment(variables);
  all.insert(all.end(), arguments.begin(), arguments.end());
  ++commands_run_;
  const auto captured = run_and_capture(all, timeout_s.value_or(settings_.command_timeout_s), /*with_stderr=*/true);
  return {.ok = captured.result.ok(), .timed_out = captured.result.signal == SIGKILL, .output = captured.output};
}

std::vector<SlurmJob> SlurmCommands::queue() {
  const Answer answer = run({"squeue", "--noheader", "--array", "--states=all", "--user=" + std::to_string(geteuid()),
                             "--Format=" + queue_format});
  if (!answer.ok)
    throw Error("slurm: squeue", answer.timed_out ? "no answer from the controller in time"
                                                  : "the controller cannot be asked: " + message_of(answer.output));
  std::vector<SlurmJob> jobs;
  for (const auto& line : lines_of(answer.output)) {
    const auto fields = split_fields(line, queue_fields);
    if (fields.size() != queue_fields || !is_number(fields[0])) continue;  // a warning on stderr
    SlurmJob job{
        .id = number(fields[0]), .state = fields[2], .reason = fields[7], .nodes = fields[8], .name = fields[9]};
    job.array = is_number(fields[1]);
    job.index = job.array ? static_cast<int>(number(fields[1])) : 0;
    set_exit(job, fields[3]);
    job.restarts = static_cast<int>(number(fields[4]));
    if (is_number(fields[5]) && is_number(fields[6]))
      job.seconds = static_cast<double>(number(fields[6]) - number(fields[5]));
    jobs.push_back(std::move(job));
  }
  return jobs;
}

SlurmSubmission SlurmCommands::submit(const std::vector<std::string>& arguments, std::optional<double> timeout_s,
                                      const std::vector<std::string>& variables) {
  std::vector<std::string> command = {"sbatch"};
  command.insert(command.end(), arguments.begin(), arguments.end());
  const Answer answer = run(command, timeout_s, variables);
  using Outcome = SlurmSubmission::Outcome;
  if (answer.ok)
    for (const auto& line : lines_of(answer.output)) {
      const std::string id = line.substr(0, line.find(';'));  // "12;cluster"
      if (is_number(id)) return {Outcome::taken, number(id), ""};
    }
  const std::string message = message_of(answer.output);
  // "temporarily unable": sbatch itself waits and tries again, until it is ended. "job submit limit" is in what Slurm
  // says of any limit; a line before it names the one that counts: QOSMaxSubmitJobPerUserLimit, AssocMaxWallDuration...
  const bool other_limit = contains_any(message, {"QOSM", "QOSG", "AssocM", "AssocG"});
  if (contains_any(message, {"temporarily unable to accept job", "SubmitJob"}) ||
      (!other_limit && contains_any(message, {"job submit limit"})))
    return {Outcome::full, 0, message};
  if (answer.timed_out)
    return {Outcome::uncertain, 0,
            "sbatch got no answer from the controller in time" + (message.empty() ? "" : ": " + message)};
  if (answer.ok) return {Outcome::uncertain, 0, "sbatch ended well but told no job id: " + message};
  if (contains_any(message, {"Socket timed out", "Unable to contact", "Connection refused", "Connection timed out",
                             "connect failure", "Zero Bytes", "essage receive failure", "essage send failure",
                             "ommunication connection failure", "Transport endpoint", "send/recv",
                             "ommunication shutdown", "backup controller", "standby", "Connection reset", "Broken pipe",
                             "No route to host", "authentication error"}))
    return {Outcome::uncertain, 0, message};
  return {Outcome::refused, 0, message.empty() ? "sbatch failed and said nothing" : message};
}

std::string SlurmCommands::each(const std::vector<std::string>& command, const std::vector<std::string>& labels,
                                bool joined) {
  std::string problem;
  for (std::size_t start = 0; start < labels.size(); start += most_labels) {
    std::vector<std::string> arguments = command;
    const auto end = std::min(labels.size(), start + most_labels);
    if (joined) {
      std::string list;
      for (std::size_t i = start; i < end; ++i) list += (list.empty() ? "" : ",") + labels[i];
      arguments.push_back(list);
    } else {
      arguments.insert(arguments.end(), labels.begin() + static_cast<std::ptrdiff_t>(start),
                       labels.begin() + static_cast<std::ptrdiff_t>(end));
    }
    const Answer answer = run(arguments);
    if (answer.ok) continue;
    // scontrol's last line is of all jobs, and says nothing where the last of them was released.
    for (const auto& line : lines_of(answer.output))
      if (line != "slurm_suspend error" &&
          !contains_any(line, {"already completing", "already completed", "already finished", "Invalid job id",
                               "already held or", "Job/step already", "slurm_suspend error: No error"}))
        problem = message_of(line);
    if (answer.timed_out) problem = command[0] + " got no answer from the controller in time";
  }
  return problem;
}

std::string SlurmCommands::release(const std::vector<std::string>& labels) {
  return each({"scontrol", "release"}, labels, true);
}

std::string SlurmCommands::cancel(const std::vector<std::string>& labels) {
  return each({"scancel", "--quiet"}, labels, false);
}

std::string SlurmCommands::signal_batch_script(const std::string& signal, const std::vector<std::string>& labels) {
  return each({"scancel", "--quiet", "--batch", "--signal=" + signal}, labels, false);
}

const std::map<std::string, std::string>& SlurmCommands::configuration() {
  if (configuration_) return *configuration_;
  configuration_.emplace();
  const Answer answer = run({"scontrol", "show", "config"});
  if (!answer.ok) return *configuration_;
  for (const auto& line : lines_of(answer.output)) {
    const auto equals = line.find(" = ");
    if (equals == std::string::npos) continue;
    const std::string key = line.substr(0, line.find(' '));
    (*configuration_)[key] = line.substr(equals + 3);
  }
  return *configuration_;
}

std::size_t SlurmCommands::nodes_of(const std::string& partition) {
  std::vector<std::string> command = {"sinfo", "--noheader", "--Node", "--format=%N|%P"};
  if (!partition.empty()) command.push_back("--partition=" + partition);
  const Answer answer = run(command);
  std::set<std::string> nodes;
  if (!answer.ok) return 0;
  for (const auto& line : lines_of(answer.output))
    if (const auto fields = split_fields(line, 2);
        fields.size() == 2 && (!partition.empty() || fields[1].ends_with('*')))  // the default partition's mark
      nodes.insert(fields[0]);
  return nodes.size();
}

namespace {

// "12345K", "1.5G", "900" as bytes; below 0: no such text.
double slurm_bytes(const std::string& text) {
  char* rest = nullptr;
  double bytes = std::strtod(text.c_str(), &rest);
  if (rest == text.c_str()) return -1;
  const std::string units = "KMGTP";
  if (const auto unit = units.find(*rest); *rest != '\0' && unit != std::string::npos)
    for (std::size_t i = 0; i <= unit; ++i) bytes *= 1024;
  return bytes;
}

// Of "cpu=00:00:12,mem=12345K,gres/gpumem=10G" the value of a name, "" when it is not there.
std::string tres(const std::string& list, const std::string& name) {
  std::istringstream parts(list);
  for (std::string part; std::getline(parts, part, ',');)
    if (part.starts_with(name + "=")) return part.substr(name.size() + 1);
  return "";
}

// A job's steps come after it, as "12.batch", "12.0": what is told of one counts for the job.
void add_accounted(const std::vector<std::string>& fields, std::map<long, SlurmUse>& jobs) {
  SlurmUse& use = jobs[number(fields[0])];
  const auto larger = [](double& value, double other) { value = std::max(value, other); };
  if (is_number(fields[1])) larger(use.seconds, static_cast<double>(number(fields[1])));
  if (const auto cpu = slurm_seconds(fields[2])) larger(use.cpu_s, static_cast<double>(*cpu));
  const std::string memory = tres(fields[4], "mem");
  larger(use.memory_bytes, slurm_bytes(memory.empty() ? fields[3] : memory));
  larger(use.gpu_memory_bytes, slurm_bytes(tres(fields[4], "gres/gpumem")));
  if (const double percent = slurm_bytes(tres(fields[5], "gres/gpuutil")); percent >= 0)
    larger(use.gpu_use, percent / 100);
  if (const double joules = slurm_bytes(fields[6]); joules > 0) larger(use.energy_j, joules);
}

}  // namespace

std::map<long, SlurmUse> SlurmCommands::used(const std::vector<long>& ids) {
  std::map<long, SlurmUse> jobs;
  for (std::size_t start = 0; start < ids.size(); start += most_labels) {
    std::string list;
    for (std::size_t i = start; i < std::min(ids.size(), start + most_labels); ++i)
      list += (list.empty() ? "" : ",") + std::to_string(ids[i]);
    const Answer answer =
        run({"sacct", "--noheader", "--parsable2", "--starttime=1970-01-02", "--jobs=" + list,
             "--format=JobIDRaw,ElapsedRaw,TotalCPU,MaxRSS,TRESUsageInTot,TRESUsageInAve,ConsumedEnergyRaw"});
    if (!answer.ok) return {};
    for (const auto& line : lines_of(answer.output))
      if (const auto fields = split_fields(line, 7);
          fields.size() == 7 && is_number(fields[0].substr(0, fields[0].find('.'))))
        add_accounted(fields, jobs);
  }
  return jobs;
}

std::vector<SlurmJob> SlurmCommands::accounted(const std::vector<std::string>& labels) {
  std::vector<SlurmJob> jobs;
  for (std::size_t start = 0; start < labels.size(); start += most_labels) {
    std::string list;
    for (std::size_t i = start; i < std::min(labels.size(), start + most_labels); ++i)
      list += (list.empty() ? "" : ",") + labels[i];
    // From the epoch on: sacct's default window begins at midnight.
    const Answer answer = run({"sacct", "--noheader", "--parsable2", "--allocations", "--starttime=1970-01-02",
                               "--jobs=" + list, "--format=JobID,State,ExitCode,ElapsedRaw,NodeList,JobName"});
    if (!answer.ok) return {};
    for (const auto& line : lines_of(answer.output)) {
      const auto fields = split_fields(line, 6);
      if (fields.size() != 6) continue;
      const auto underscore = fields[0].find('_');
      if (!is_number(fields[0].substr(0, underscore))) continue;
      SlurmJob job{.id = number(fields[0]),
                   .state = fields[1].substr(0, fields[1].find(' ')),
                   .nodes = fields[4] == "None assigned" ? "" : fields[4],
                   .name = fields[5]};  // state "CANCELLED by 1000"
      job.array = underscore != std::string::npos;
      if (job.array) job.index = static_cast<int>(number(fields[0].substr(underscore + 1)));
      set_exit(job, fields[2]);
      if (is_number(fields[3])) job.seconds = static_cast<double>(number(fields[3]));
      jobs.push_back(std::move(job));
    }
  }
  return jobs;
}

}  // namespace filo
