#include "service/serve.hpp"

#include <algorithm>
#include <charconv>
#include <condition_variable>
#include <map>
#include <ostream>
#include <thread>

#include "base/error.hpp"
#include "base/host.hpp"
#include "base/log.hpp"
#include "base/signals.hpp"
#include "scheduler/control/drain.hpp"
#include "scheduler/control/requests.hpp"
#include "service/api.hpp"
#include "service/http/token.hpp"
#include "workspace/run_file.hpp"
#include "workspace/server_file.hpp"

namespace filo::service {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto between_passes = std::chrono::seconds(2);
constexpr auto between_looks = std::chrono::milliseconds(100);
constexpr int passes_after_actions = 3;  // that follow quickly: a job is asked to end, ends, and its end is recorded

// A thread that leaves the stop signals to the main one, and is joined.
class Worker {
 public:
  explicit Worker(std::function<void()> work) {
    const SignalsBlocked blocked;
    thread_ = std::thread(std::move(work));
  }
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;
  ~Worker() { thread_.join(); }

 private:
  std::thread thread_;
};

std::string host_in_url(const std::string& address) {
  if (address == "0.0.0.0" || address == "::") return host_name();
  return address.find(':') == std::string::npos ? address : "[" + address + "]";
}

// A pass soon, from any thread.
class Bell {
 public:
  void ring() {
    const std::lock_guard lock(mutex_);
    rung_ = true;
    changed_.notify_all();
  }
  // Whether it was rung.
  bool wait(std::chrono::milliseconds most) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, most, [&] { return rung_; });
    return std::exchange(rung_, false);
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool rung_ = false;
};

// The reconcile loop. Made, run and destroyed on one thread: children of this process end with the thread that started
// them.
class Loop {
 public:
  Loop(const Workspace& workspace, const ServeOptions& options, Monitor& monitor, PassCounters& counters, Bell& bell)
      : options_(options),
        monitor_(monitor),
        counters_(counters),
        bell_(bell),
        workspace_(workspace),
        coordinator_(workspace, options.executors ? options.executors : none_started, options.coordinator) {}

  void run() {
    // What the files say, at once: the first pass waits for clusters and locks.
    publish("the first pass over the workspace has yet to end", Clock::now());
    while (!options_.stop()) {
      const bool complete = look(true);
      const auto next = Clock::now() + (complete ? pause() : std::chrono::milliseconds(20));
      while (Clock::now() < next && !options_.stop() && !rung() && coordinator_.children().ended == 0) {
      }
    }
    drain(coordinator_, {.grace_s = options_.grace_s, .pass = [this] { look(false); }});
  }

 private:
  static std::unique_ptr<Executor> none_started(const ActiveExperiment&) { return nullptr; }

  // A cluster's controller has other users too: its queue is looked at less often while nothing happens.
  std::chrono::milliseconds pause() {
    const auto experiments = workspace_.active_experiments();
    const bool on_cluster = std::any_of(experiments.begin(), experiments.end(),
                                        [](const auto& experiment) { return experiment.executor != "local"; });
    const bool calm = quick_passes_ == 0;
    if (!calm) --quick_passes_;
    if (!on_cluster || !calm) return between_passes;
    return std::chrono::milliseconds(static_cast<std::int64_t>(options_.poll_s * 1000));
  }

  bool rung() {
    if (!bell_.wait(between_looks)) return false;
    quick_passes_ = passes_after_actions;
    return true;
  }

  // One pass, and a view of what it came to. False: there is more to show at once.
  bool look(bool start_new) {
    const auto start = Clock::now();
    std::string problem;
    try {
      const CoordinatorPass pass = coordinator_.pass(start_new);
      if (!pass.actions.empty()) quick_passes_ = passes_after_actions;
      for (const auto& trouble : pass.troubles) problem += (problem.empty() ? "" : "; ") + trouble;
      ++counters_.passes;
    } catch (const std::exception& error) {
      problem = error.what();
      ++counters_.failed_passes;
    }
    counters_.pass_seconds = std::chrono::duration<double>(Clock::now() - start).count();
    if (!problem.empty() && problem != told_) log_warning("serve: " + problem);
    told_ = problem;
    return publish(problem, start);
  }

  bool publish(const std::string& problem, Clock::time_point start) {
    try {
      return monitor_.publish({[&](const std::string& name) { return coordinator_.plan(name); },
                               [&](const std::string& name) { return statuses(name, start); }},
                              problem);
    } catch (const std::exception& error) {
      log_warning("serve: " + std::string(error.what()));
      return true;
    }
  }

  // Of experiments that no pass looks after the files alone tell, which takes a while where there are many: less often.
  std::optional<Monitor::Statuses> statuses(const std::string& name, Clock::time_point now) {
    const bool active = workspace_.active(name).has_value();
    Clock::time_point& due = due_[name];
    if (!active && now < due) return std::nullopt;
    const auto start = Clock::now();
    Monitor::Statuses found{coordinator_.statuses(name), active || !living_runs(workspace_, name).empty()};
    due = active ? Clock::time_point()
                 : Clock::now() + std::max<Clock::duration>(between_passes, 20 * (Clock::now() - start));
    return found;
  }

  const ServeOptions& options_;
  Monitor& monitor_;
  PassCounters& counters_;
  Bell& bell_;
  Workspace workspace_;
  int quick_passes_ = 0;
  std::string told_;
  std::map<std::string, Clock::time_point> due_;
  Coordinator coordinator_;
};

// What requests ask for is written into the workspace; the bell brings the pass that acts on it.
Actions actions_in(const Workspace& workspace, Bell& bell) {
  return {.cancel_stage = [&](const std::string& key,
                              const std::string& reason) { return cancel_stage(workspace, key, reason); },
          .retry_stage = [&](const std::string& key) { workspace.retry(key); },
          .cancel_experiment =
              [&](const std::string& name, const std::string& reason) {
                return cancel_experiment(workspace, name, reason).has_value();
              },
          .retry_experiment = [&](const std::string& name) { retry_experiment(workspace, name); },
          .wake = [&] { bell.ring(); }};
}

std::filesystem::path token_file(const Workspace& workspace, const ServeOptions& options) {
  return options.token_file.empty() ? workspace.token_file() : options.token_file;
}

void follow_event_files(EventTailer tailer, const std::atomic<bool>& ended) {
  while (!ended) {
    try {
      tailer.look();
    } catch (const std::exception& error) {
      log_warning("serve: " + std::string(error.what()));
    }
    std::this_thread::sleep_for(between_looks);
  }
}

}  // namespace

std::pair<std::string, std::uint16_t> parse_listen(const std::string& text) {
  const auto colon = text.rfind(':');
  std::string address = text.substr(0, colon);
  const bool bracketed = address.size() > 2 && address.front() == '[' && address.back() == ']';
  if (bracketed) address = address.substr(1, address.size() - 2);
  std::uint16_t port = 0;
  const char* end = text.data() + text.size();
  const auto number = std::from_chars(text.data() + (colon == std::string::npos ? text.size() : colon + 1), end, port);
  const bool sound = colon != std::string::npos && !address.empty() && number.ptr == end && number.ec == std::errc() &&
                     (bracketed || address.find_first_of(":[]") == std::string::npos);
  if (!sound)
    throw UsageError("serve: --listen " + text,
                     "expected ADDRESS:PORT, as in 127.0.0.1:8321, 0.0.0.0:8321 or [::1]:8321");
  return {address == "localhost" ? "127.0.0.1" : address, port};
}

void serve(const Workspace& workspace, const ServeOptions& options, std::ostream& out) {
  const auto [address, port] = parse_listen(options.listen);
  if (options.certificate.empty() != options.key.empty())
    throw UsageError("serve: TLS", "expected --tls-certificate and --tls-key, or neither");
  const std::string token = http::load_or_make_token(token_file(workspace, options));
  const std::string secret = events_secret(token);

  EventHub hub;
  Monitor monitor(workspace, hub);
  http::ServerCounters requests;
  PassCounters passes;
  Bell bell;
  const ApiContext context{.workspace = workspace,
                           .hub = hub,
                           .monitor = monitor,
                           .requests = requests,
                           .passes = passes,
                           .actions = actions_in(workspace, bell),
                           .version = options.version,
                           .events_secret = secret};
  const http::Router router = make_router(context);
  http::Server server({.address = address,
                       .port = port,
                       .certificate = options.certificate,
                       .key = options.key,
                       .token = token,
                       .allowed_hosts = options.allowed_hosts,
                       .limits = options.limits},
                      router, requests);

  const std::string scheme = options.certificate.empty() ? "http://" : "https://";
  const std::string url = scheme + host_in_url(address) + ":" + std::to_string(server.port());
  const ServerFile server_file(workspace,
                               {.url = url,
                                .events_secret = secret,
                                .certificate = options.certificate.empty() ? "" : read_file(options.certificate)});
  out << "serving " << workspace.root().string() << " at " << url << "/"
      << (options.show_token ? "#token=" + token : "  (token: " + token_file(workspace, options).string() + ")") << "\n"
      << std::flush;

  std::atomic<bool> ended{false};
  const auto loop = [&] {
    try {
      Loop(workspace, options, monitor, passes, bell).run();
    } catch (const std::exception& error) {
      log_warning("serve: " + std::string(error.what()));
    }
    server.stop();
  };
  const Worker tail_thread([&] { follow_event_files(EventTailer(workspace, hub, monitor), ended); });
  const Worker loop_thread(loop);
  server.run();
  ended = true;
}

}  // namespace filo::service
