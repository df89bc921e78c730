#include "trainer/stage.hpp"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <thread>

#include "base/error.hpp"
#include "base/files.hpp"
#include "base/log.hpp"
#include "base/signals.hpp"
#include "cluster/session.hpp"
#include "trainer/device.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;

// The largest number that names an entry of the folder; 0 when none does.
int newest_number(const fs::path& folder) {
  int newest = 0;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    int number = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
    if (error == std::errc() && end == name.data() + name.size()) newest = std::max(newest, number);
  }
  return newest;
}

// Each start of an attempt takes the next number; mkdir is the test-and-set.
int claim_start(const fs::path& attempt_folder) {
  const fs::path starts = attempt_folder / "starts";
  fs::create_directories(starts);
  int start = newest_number(starts) + 1;
  while (!fs::create_directory(starts / std::to_string(start))) ++start;
  sync_path(starts);
  return start;
}

}  // namespace

Stage::Stage(const StageArguments& arguments, const std::string& kind, const Device& device)
    : arguments_(arguments), device_(device) {
  const fs::path spec_path = folder() / "spec.json";
  if (!fs::exists(spec_path))
    throw UsageError(kind + ": " + spec_path.string(),
                     "not found; expected a stage that `filo run` or `filo submit` has planned");
  spec_ = read_json(spec_path);
  if (!spec_.is_object() || spec_.value("kind", "") != kind)
    throw UsageError(kind + ": " + spec_path.string() + ": kind",
                     "found " + spec_.value("kind", Json()).dump() + ", expected \"" + kind + "\"");
  if (is_root()) {
    const fs::path attempt_folder = folder() / "attempts" / std::to_string(arguments_.attempt);
    start_ = claim_start(attempt_folder);
    events_ = EventLog(attempt_folder / "events.jsonl");
    if (const char* server = std::getenv("FILO_SERVER_FILE"); server != nullptr && *server != '\0')
      events_.also_post(std::make_unique<HttpPoster>(
          [file = fs::path(server)] { return read_http_target(file); },
          "/api/v1/stages/" + arguments_.key + "/attempts/" + std::to_string(arguments_.attempt) + "/events"));
  }
}

std::string Stage::input(const std::string& kind) const {
  const Json inputs = spec_.value("inputs", Json::object());
  if (!inputs.contains(kind) || !inputs[kind].is_string())
    throw Error((folder() / "spec.json").string() + ": inputs." + kind,
                "missing; expected the key of the stage it needs");
  return inputs[kind];
}

std::vector<std::string> Stage::all_inputs(const std::string& kind) const {
  std::vector<std::string> keys = {input(kind)};
  const Json inputs = spec_.at("inputs");
  for (int number = 2; inputs.contains(kind + "." + std::to_string(number)); ++number)
    keys.push_back(input(kind + "." + std::to_string(number)));
  return keys;
}

void Stage::finish(const Json& metrics, const std::map<std::string, std::string>& artifacts) {
  communicator().barrier();  // every rank's files are written
  if (!is_root()) return;
  const int newest = newest_number(folder() / "attempts");
  if (newest > arguments_.attempt)
    throw Error("worker: " + folder().string(), "attempt " + std::to_string(arguments_.attempt) +
                                                    " was superseded by attempt " + std::to_string(newest) +
                                                    "; its result is not recorded");
  const int newest_start = newest_number(folder() / "attempts" / std::to_string(arguments_.attempt) / "starts");
  if (newest_start > start_)
    throw Error("worker: " + folder().string(), "start " + std::to_string(start_) + " of attempt " +
                                                    std::to_string(arguments_.attempt) + " was superseded by start " +
                                                    std::to_string(newest_start) + "; its result is not recorded");
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started_).count();
  write_json(folder() / "result.json", {{"stage", arguments_.key},
                                        {"kind", spec_["kind"]},
                                        {"attempt", arguments_.attempt},
                                        {"world_size", communicator().world_size()},
                                        {"threads", arguments_.threads},
                                        {"seconds", seconds},
                                        {"metrics", metrics},
                                        {"artifacts", artifacts}});
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

int run_attempt(const StageArguments& arguments, const std::string& kind, void (*body)(Stage&)) {
  const Device device = open_device(arguments.gpus, arguments.threads);
  Stage stage(arguments, kind, device);
  stage.events().write("started", {{"world_size", device.host->world_size()},
                                   {"threads", arguments.threads},
                                   {"device", compute_device().str()},
                                   {"spec", stage.spec()}});
  try {
    body(stage);
  } catch (const StoppedEarly& stop) {
    if (stage.is_root()) log_info(stop.what());
    return static_cast<int>(stop.exit_code());
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
  MpiSession session;
  const LauncherWatch watch;
  start_logging("filo-worker " + kind + " " + std::to_string(session.rank()) + "/" +
                std::to_string(session.world_size()));
  return session.run([&] { return run_attempt(arguments, kind, body); });
}

}  // namespace filo
