#include "trainer/stage.hpp"

#include <torch/version.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <thread>

#include "base/error.hpp"
#include "base/files.hpp"
#include "base/host.hpp"
#include "base/log.hpp"
#include "base/signals.hpp"
#include "cluster/session.hpp"
#include "data/shards/cache_care.hpp"
#include "model/products.hpp"
#include "trainer/device.hpp"
#include "workspace/server_file.hpp"
#include "workspace/spec.hpp"

namespace filo {

namespace fs = std::filesystem;

Stage::Stage(const StageArguments& arguments, const std::string& kind, const Device& device, Watchdog& watchdog)
    : arguments_(arguments),
      device_(device),
      watchdog_(watchdog),
      kind_(stage_kind(kind)),
      workspace_(arguments.workspace, Workspace::Access::read) {
  const fs::path spec_path = spec_file();
  if (!fs::exists(spec_path))
    throw UsageError(kind + ": " + spec_path.string(),
                     "not found; expected a stage that `filo run` or `filo submit` has planned");
  spec_ = read_json(spec_path);
  if (!spec_.is_object() || spec_.value("kind", "") != kind)
    throw UsageError(kind + ": " + spec_path.string() + ": kind",
                     "found " + spec_.value("kind", Json()).dump() + ", expected \"" + kind + "\"");
  if (arguments_.gpus > 0) gpu_meter_ = std::make_unique<GpuMeter>();
  if (is_root()) start_ = workspace_.make_start(arguments_.key, arguments_.attempt);
  communicator().broadcast(&start_, sizeof start_, 0);
  start_watchdog();
  if (is_root()) {
    events_ = EventLog(workspace_.events_file(arguments_.key, arguments_.attempt));
    if (const char* server = std::getenv("FILO_SERVER_FILE"); server != nullptr && *server != '\0')
      events_.also_post(std::make_unique<HttpPoster>(
          [workspace = workspace_, file = fs::path(server), key = arguments_.key, attempt = arguments_.attempt] {
            return find_server(workspace, file, key, attempt);
          },
          "/api/v1/stages/" + arguments_.key + "/attempts/" + std::to_string(arguments_.attempt) + "/events"));
  }
}

// What the watchdog does runs beside a main thread that may be anywhere, so it has copies of all that it needs.
void Stage::start_watchdog() {
  const int rank = communicator().rank(), world_size = communicator().world_size();
  const char* node = std::getenv("SLURMD_NODENAME");  // as sbatch --exclude knows it
  const fs::path start = workspace_.start_folder(key(), arguments_.attempt, start_);
  watchdog_.start(
      {.rank = rank,
       .world_size = world_size,
       .timeout_s = static_cast<double>(arguments_.hang_timeout_s),
       .node = node != nullptr ? node : host_name(),
       .heartbeat_file = [start](int of) { return start / ("heartbeat-" + std::to_string(of) + ".json"); },
       .report =
           [rank, world_size, events = workspace_.events_file(key(), arguments_.attempt)](const Hang& hang) {
             std::fprintf(stderr, "filo-worker %d/%d: %s\n", rank, world_size, hang.message.c_str());
             EventLog(events).write("failed",
                                    {{"message", hang.message}, {"hung_rank", hang.rank}, {"node", hang.node}});
           },
       .end = [] { _exit(static_cast<int>(ExitCode::failed)); }});
  at("the start");
}

std::string Stage::input(const std::string& name) const { return input_of(spec_, name, spec_file()); }

std::vector<std::string> Stage::all_inputs(const std::string& name) const {
  return inputs_of(spec_, name, spec_file());
}

void Stage::finish(const Json& metrics, const std::map<std::string, std::string>& artifacts) {
  at("the end: all ranks' files");
  ResourceUse use = resource_use_of_this_process();
  use.gpu_memory_bytes = peak_device_memory();
  if (gpu_meter_) use.gpu_use = gpu_meter_->use();
  use = resource_use_of_all(communicator(), use);  // rank 0 waits: every rank's files are written
  if (!is_root()) return;
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started_).count();
  Json told = {{"seconds", seconds}, {"cpu_s", use.cpu_s}, {"memory_bytes", use.memory_bytes}};
  if (arguments_.gpus > 0) told["gpu_memory_bytes"] = use.gpu_memory_bytes;
  if (use.gpu_use) told["gpu_use"] = *use.gpu_use;
  events_.write("used", told);
  workspace_.commit({.stage = arguments_.key,
                     .kind = kind_,
                     .attempt = arguments_.attempt,
                     .world_size = communicator().world_size(),
                     .threads = arguments_.threads,
                     .device = compute_device().str(),
                     .seconds = seconds,
                     .metrics = metrics,
                     .artifacts = artifacts},
                    start_);
  std::error_code ignored;
  fs::remove_all(workspace_.kept_folder(key()), ignored);
}

namespace {

// Ends this process when its launcher (mpirun, slurmstepd) is gone: a rank that went on alone would waste a slot, and
// its work is taken up by the next attempt anyway. Polled, because PR_SET_PDEATHSIG follows the launcher's thread, not
// its process.
class LauncherWatch {
 public:
  LauncherWatch()
      : thread_([launcher = getppid()](const std::stop_token& stop) {
          while (!stop.stop_requested()) {
            if (getppid() != launcher) _exit(static_cast<int>(ExitCode::failed));
            std::this_thread::sleep_for(std::chrono::milliseconds(200));
          }
        }) {}

 private:
  std::jthread thread_;
};

// Where files appear late, a stage may be started again although its result is there: on this host it is seen.
bool is_done_already(const Stage& stage) {
  std::int32_t attempt = 0;
  if (stage.is_root())
    if (const auto result = stage.workspace().result(stage.key(), stage.kind())) attempt = result->attempt;
  stage.communicator().broadcast(&attempt, sizeof attempt, 0);
  if (attempt > 0 && stage.is_root())
    log_info("nothing to do: the result of attempt " + std::to_string(attempt) + " is there");
  return attempt > 0;
}

// The watchdog has told of a rank that does not answer by then, and knows more than NCCL does.
constexpr double nccl_waits_longer_s = 4;

// A shard that is damaged is set aside, and its features stage no longer done: it makes the shard anew, after which
// this stage goes on. By whichever rank has met it; returns what it tells.
std::string hand_back(const Stage& stage, const ShardDamage& damage) {
  const fs::path shard = damage.shard();
  std::string key = shard.parent_path().filename().string(), message = damage.what();
  if (shard.parent_path() == stage.workspace().features_folder(key)) {
    if (set_aside_if_named(shard)) stage.workspace().withdraw_result(key);
    message += "; the shard was set aside, features stage " + key + " makes it anew (by hand: filo features repair " +
               key + "), and then this stage goes on";
  } else {
    std::error_code ignored;
    fs::remove(shard, ignored);
    key = "";
    message += "; this was a local copy, which is made again";
  }
  EventLog(stage.workspace().events_file(stage.key(), stage.arguments().attempt))
      .write("damaged", {{"features", key}, {"shard", shard.filename().string()}, {"message", message}});
  return message;
}

int run_attempt(const StageArguments& arguments, const std::string& kind, void (*body)(Stage&), Watchdog& watchdog) {
  Device device = open_device(arguments.threads);
  Stage stage(arguments, kind, device, watchdog);
  if (is_done_already(stage)) return static_cast<int>(ExitCode::done);
  try {
    const int timeout_s = arguments.hang_timeout_s;
    stage.at("the start: GPUs");
    if (arguments.gpus > 0) use_gpu(device, timeout_s == 0 ? 0 : timeout_s + nccl_waits_longer_s);
    const Products by = stage.kind() == StageKind::train ? products_of_training() : products();
    stage.events().write("started", {{"world_size", device.host->world_size()},
                                     {"threads", arguments.threads},
                                     {"device", compute_device().str()},
                                     {"products", products_name(by)},
                                     {"host", host_name()},
                                     {"versions", {{"filo", arguments.version}, {"torch", TORCH_VERSION}}},
                                     {"spec", stage.spec()}});
    stage.at("its inputs");
    body(stage);
    stage.at("the end");
  } catch (const StoppedEarly& stop) {
    if (stage.is_root()) log_info(stop.what());
    return static_cast<int>(stop.exit_code());
  } catch (const ShardDamage& damage) {
    throw StoppedEarly(to_string(stage.kind()) + ": " + hand_back(stage, damage));
  } catch (const std::exception& error) {
    stage.events().write("failed", {{"message", error.what()}});
    throw;
  }
  stage.events().write("finished");
  return static_cast<int>(ExitCode::done);
}

}  // namespace

int run_stage(const StageArguments& arguments, const std::string& kind, void (*body)(Stage&)) {
  install_stop_handlers();
  Watchdog watchdog;  // longer than the session, whose end waits for all ranks
  MpiSession session;
  const LauncherWatch watch;
  start_logging("filo-worker " + kind + " " + std::to_string(session.rank()) + "/" +
                std::to_string(session.world_size()));
  return session.run([&] { return run_attempt(arguments, kind, body, watchdog); });
}

}  // namespace filo
