#include "bench/scheduler_bench.hpp"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <thread>

#include "base/error.hpp"
#include "base/host.hpp"
#include "base/process.hpp"
#include "bench/measure.hpp"
#include "scheduler/control/coordinator.hpp"
#include "scheduler/executors/slurm_executor.hpp"
#include "scheduler/plan/plan_file.hpp"
#include "settings/metrics.hpp"
#include "workspace/events.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

// One of a hundred is features, the rest trainings and their evaluations in pairs. All are done but the last tenth: one
// of its trainings in ten has failed for good, the others wait for features that a job of another cluster makes.
class BenchWorkspace {
 public:
  BenchWorkspace(const fs::path& folder, std::size_t stages) : workspace_(folder) {
    fs::create_directories(workspace_.stages_folder());
    plan_.name = "bench";
    const std::size_t features = std::max<std::size_t>(2, stages / 100);
    for (std::size_t i = 0; i < features; ++i)
      add(StageKind::features, "features of data set " + std::to_string(i), {});
    const std::size_t trials = (stages - features) / 2;
    for (std::size_t i = 0; i < trials; ++i) {
      const bool old = i < trials * 9 / 10;
      const std::string input = plan_.stages[old ? i % (features - 1) : features - 1].key;
      const std::string train = add(StageKind::train, "train on data set " + std::to_string(i % features), {input});
      const std::string evaluate = add(StageKind::evaluate, "evaluate training " + std::to_string(i), {input, train});
      plan_.trials.push_back({"bench", "a->b", {{"train.seed", i}}, train, evaluate, -1});
    }
    for (std::size_t i = 0; i < plan_.stages.size(); ++i) {
      const PlannedStage& stage = plan_.stages[i];
      const bool old = i < features - 1 || (i >= features && (i - features) / 2 < trials * 9 / 10);
      make_folder(stage);
      if (old)
        finish(stage);
      else if (i == features - 1)
        claim(stage);
      else if (stage.kind == StageKind::train && i % 20 == 0)
        fail(stage);
    }
    save_plan(plan_, workspace_);
    workspace_.write_active({.name = "bench", .executor = "local", .cluster = ""});
    // What was written this very moment is read again: an hour ago it was settled.
    settle(workspace_.stages_folder());
  }

  const Workspace& workspace() const { return workspace_; }
  std::size_t stages() const { return plan_.stages.size(); }

 private:
  std::string add(StageKind kind, const std::string& label, std::vector<std::string> inputs) {
    const std::string key = bench_key(plan_.stages.size());
    plan_.stages.push_back({key, kind, label, std::move(inputs), {}, StageSpec()});
    return key;
  }

  void make_folder(const PlannedStage& stage) {
    fs::create_directories(workspace_.attempts_folder(stage.key));
    write_plainly(workspace_.spec_file(stage.key), stage.spec.json().dump());
  }

  void attempt(const PlannedStage& stage, int number, const Json& claim, const Json& end) {
    fs::create_directory(workspace_.attempt_folder(stage.key, number));
    write_plainly(workspace_.claim_file(stage.key, number), claim.dump(2));
    if (!end.is_null()) write_plainly(workspace_.outcome_file(stage.key, number), end.dump(2));
  }

  void finish(const PlannedStage& stage) {
    attempt(stage, 1, {{"executor", "slurm bench"}}, {{"outcome", "done"}, {"cause", "exited"}, {"reason", ""}});
    Json metrics = Json::object();
    for (const auto& metric : known_metrics()) metrics[metric.name] = 90.5;
    const StageResult result{
        .stage = stage.key, .kind = stage.kind, .attempt = 1, .world_size = 2, .seconds = 60.5, .metrics = metrics};
    write_plainly(workspace_.result_file(stage.key), to_json(result).dump(2));
  }

  void fail(const PlannedStage& stage) {
    for (int number = 1; number <= 3; ++number)
      attempt(stage, number, {{"executor", "slurm bench"}},
              {{"outcome", "failed"}, {"cause", "exited"}, {"reason", "data: image.png: torn"}});
  }

  void claim(const PlannedStage& stage) { attempt(stage, 1, {{"executor", "slurm bench"}}, Json()); }

  static void settle(const fs::path& folder) {
    const auto before = fs::file_time_type::clock::now() - std::chrono::hours(1);
    for (const auto& entry : fs::recursive_directory_iterator(folder)) fs::last_write_time(entry.path(), before);
  }

  Workspace workspace_;
  Plan plan_;
};

// Wall time of a command of filo on the workspace.
double time_of(const SchedulerBenchOptions& options, const Workspace& workspace, std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), options.program.string());
  arguments.insert(arguments.end(), {"--workspace", workspace.root().string()});
  const auto start = Clock::now();
  const CapturedOutput output = run_and_capture(arguments, 600, true);
  const double seconds = seconds_since(start);
  if (output.result.exit_code != 0)
    throw Error("bench: filo " + arguments[1], "ended with exit code " + std::to_string(output.result.exit_code) +
                                                   ": " + output.output.substr(0, 300));
  return seconds;
}

// The most memory that `filo serve` holds while it looks at the workspace for `seconds`.
double serve_memory_mb(const SchedulerBenchOptions& options, const Workspace& workspace, double seconds) {
  Process server({.arguments = {options.program.string(), "serve", "--listen", "127.0.0.1:0", "--workspace",
                                workspace.root().string()},
                  .output_file = options.folder / "serve.log"});
  const auto end = Clock::now() + std::chrono::duration<double>(seconds);
  while (Clock::now() < end) {
    if (server.poll())
      throw Error("bench: filo serve", "ended: " + read_file(options.folder / "serve.log").substr(0, 300));
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  double most = 0;
  std::ifstream status("/proc/" + std::to_string(server.pid()) + "/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("VmHWM:")) most = std::stod(line.substr(6)) / 1024;
  server.signal_group(SIGTERM);
  server.wait();
  return most;
}

// What a pass does with that many stages of one shape that are ready, on a real cluster.
Json bench_submission(const SchedulerBenchOptions& options) {
  ClusterSettings settings = load_cluster_settings(options.cluster_file);
  settings.max_submit = std::max(settings.max_submit, static_cast<int>(options.jobs));
  const Workspace workspace(options.folder / "submission");
  std::vector<PlannedStage> stages;
  std::vector<StartRequest> requests;
  for (std::size_t i = 0; i < options.jobs; ++i) {
    stages.push_back({bench_key(i), StageKind::train, "train", {}, {.ranks = 1, .memory = "16M"}, StageSpec()});
    workspace.create_stage(stages.back().key, {});
  }
  for (const auto& stage : stages) requests.push_back({&stage, workspace.make_attempt(stage.key), stage.resources});
  SlurmExecutor slurm(workspace, settings, "/bin/true", options.folder);
  const auto start = Clock::now();
  slurm.jobs();
  const auto problems = slurm.start(requests, slurm.prepare(requests));
  const Json figures = {{"jobs", options.jobs}, {"seconds", seconds_since(start)}, {"commands", slurm.commands_run()}};
  const auto submitted = slurm.jobs();
  for (const auto& job : submitted) slurm.kill(job.stage, job.attempt);
  slurm.jobs();  // sends what kill() gathered
  for (const auto& problem : problems)
    if (!problem.empty()) throw Error("bench: " + options.cluster_file, problem);
  for (const auto& job : submitted)
    if (job.where.starts_with("not in Slurm's queue")) throw Error("bench: " + options.cluster_file, job.where);
  return figures;
}

template <typename Measure>
double median_of_three(const Measure& measure) {
  std::array<double, 3> times{};
  for (double& time : times) time = measure();
  std::sort(times.begin(), times.end());
  return times[1];
}

Json bench_plan(const fs::path& folder, std::size_t trials) {
  const fs::path clip = folder / "clip";
  const fs::path place = folder / "workspace";
  fs::create_directories(clip);
  const WorkspaceLayout layout(place);
  fs::create_directories(layout.datasets_folder());
  write_plainly(clip / "config.json", R"({"vision_config": {"patch_size": 14, "num_hidden_layers": 24}})");
  for (const char* name : {"model.safetensors", "vocab.json", "merges.txt"}) write_plainly(clip / name, "{}");
  for (const char* name : {"parts", "boards"})
    write_plainly(layout.dataset_file(name), Json({{"name", name},
                                                   {"digest", std::string(16, name[0])},
                                                   {"classes", {{"bolt", {{"train", 1}, {"test", 2}}}}}})
                                                 .dump());
  std::string seeds;
  for (std::size_t i = 0; i < trials / 2; ++i) seeds += (i == 0 ? "" : ", ") + std::to_string(i);
  write_plainly(folder / "plan.yaml",
                "name: bench\ndata: {a: parts, b: boards}\nfolds: [{train: a, test: b}, {train: b, test: a}]\n"
                "model: {clip: " +
                    clip.string() +
                    ", image_size: 112, prompts: {descriptions: none}}\n"
                    "seeds: [" +
                    seeds + "]\n");
  const Workspace workspace(place);
  const auto start = Clock::now();
  const Plan plan = make_plan(load_experiment((folder / "plan.yaml").string()), workspace);
  return {{"trials", plan.trials.size()}, {"stages", plan.stages.size()}, {"seconds", seconds_since(start)}};
}

// Simulated workers append an event a second each to files of their own; this thread follows all of them.
Json bench_event_files(const fs::path& folder, std::size_t workers, double duration_s) {
  fs::create_directories(folder);
  const auto path_of = [&](std::size_t worker) { return folder / (std::to_string(worker) + ".jsonl"); };
  std::atomic<std::size_t> written = 0;
  std::atomic<bool> ended = false;
  std::vector<EventReader> readers;
  for (std::size_t i = 0; i < workers; ++i) {
    write_plainly(path_of(i), "");
    readers.emplace_back(path_of(i));
  }
  std::thread writer([&] {
    const auto start = Clock::now();
    const auto total = static_cast<std::size_t>(duration_s * static_cast<double>(workers));
    for (std::size_t i = 0; i < total; ++i) {
      std::this_thread::sleep_until(
          start + std::chrono::duration<double>(static_cast<double>(i) / static_cast<double>(workers)));
      const Json event = {{"seq", i / workers},  {"time", wall_time_s()}, {"event", "step"}, {"phase", "main"},
                          {"epoch", 1},          {"step", i / workers},   {"steps", 100},    {"loss", 0.5},
                          {"images_per_s", 12.5}};
      const FileDescriptor file = open_file(path_of(i % workers), O_WRONLY | O_APPEND);
      write_all(file.get(), event.dump() + "\n", path_of(i % workers));
      ++written;
    }
    ended = true;
  });
  std::vector<double> delays;
  const double cpu_before = cpu_seconds(CLOCK_THREAD_CPUTIME_ID);
  const auto start = Clock::now();
  for (bool last = false;;) {
    const auto round = Clock::now();
    last = ended;
    for (auto& reader : readers)
      for (const auto& event : reader.read()) delays.push_back(wall_time_s() - event.at("time").get<double>());
    if (last) break;
    std::this_thread::sleep_until(round + std::chrono::milliseconds(500));
  }
  const double core = (cpu_seconds(CLOCK_THREAD_CPUTIME_ID) - cpu_before) / seconds_since(start);
  writer.join();
  std::sort(delays.begin(), delays.end());
  return {
      {"workers", workers},
      {"per_s", static_cast<double>(delays.size()) / duration_s},
      {"delay_s", {{"median", quantile(delays, 0.5)}, {"p99", quantile(delays, 0.99)}, {"most", quantile(delays, 1)}}},
      {"core", core},
      {"lost", written - delays.size()}};
}

}  // namespace

Json bench_scheduler(const SchedulerBenchOptions& options) {
  if (fs::exists(options.folder) && !fs::is_empty(options.folder))
    throw UsageError("bench: " + options.folder.string(), "found a folder with something in it, expected none");
  fs::create_directories(options.folder);
  const RemovedFolder removed(options.folder);
  const fs::path index = options.folder / "index.sqlite";
  setenv("FILO_INDEX", index.c_str(), 1);
  Json json = Json::object();

  json["plan"] = bench_plan(options.folder / "plan", options.trials);
  options.progress("plan: " + json["plan"].dump());
  json["events"] = bench_event_files(options.folder / "events", options.workers, options.seconds);
  options.progress("events: " + json["events"].dump());

  const BenchWorkspace made(options.folder / "workspace", options.stages);
  const Workspace& workspace = made.workspace();
  json["stages"] = made.stages();
  options.progress("made a workspace of " + std::to_string(made.stages()) + " stages");
  json["rescan_s"] = time_of(options, workspace, {"reconcile"});
  json["pass_s"] = median_of_three([&] { return time_of(options, workspace, {"reconcile"}); });
  json["status_s"] = median_of_three([&] { return time_of(options, workspace, {"status"}); });
  rusage usage{};
  getrusage(RUSAGE_CHILDREN, &usage);
  json["memory_mb"] = static_cast<double>(usage.ru_maxrss) / 1024;
  {
    Coordinator coordinator(workspace, [](const ActiveExperiment&) { return nullptr; }, {});
    coordinator.pass();
    json["next_pass_s"] = median_of_three([&] {
      const auto start = Clock::now();
      coordinator.pass();
      return seconds_since(start);
    });
  }
  json["serve_memory_mb"] = serve_memory_mb(options, workspace, options.seconds);
  if (!options.cluster_file.empty()) {
    json["submission"] = bench_submission(options);
    options.progress("submission: " + json["submission"].dump());
  }
  return json;
}

}  // namespace filo
