#include "bench/events_bench.hpp"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <fstream>
#include <sstream>
#include <thread>

#include "base/error.hpp"
#include "base/files.hpp"
#include "base/http_poster.hpp"
#include "bench/measure.hpp"
#include "scheduler/plan/plan_file.hpp"
#include "service/http/token.hpp"
#include "service/serve.hpp"
#include "workspace/server_file.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

// An experiment of trainings that all run, as far as the files tell.
void make_workspace(const Workspace& workspace, int workers) {
  Plan plan;
  plan.name = "bench";
  plan.experiment = Json::object();
  for (int worker = 0; worker < workers; ++worker)
    plan.stages.push_back(
        {bench_key(static_cast<std::size_t>(worker)), StageKind::train, "train", {}, ResourceSettings{}, StageSpec()});
  save_plan(plan, workspace);
  for (const auto& stage : plan.stages) {
    fs::create_directories(workspace.attempt_folder(stage.key, 1));
    std::ofstream(workspace.claim_file(stage.key, 1)) << R"({"executor": "slurm bench"})";
    std::ofstream(workspace.events_file(stage.key, 1));
  }
}

void stay_on(int core) {
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(core, &one);
  pthread_setaffinity_np(pthread_self(), sizeof one, &one);
}

std::vector<int> usable_cores() {
  cpu_set_t all;
  CPU_ZERO(&all);
  std::vector<int> cores;
  if (sched_getaffinity(0, sizeof all, &all) == 0)
    for (int core = 0; core < CPU_SETSIZE; ++core)
      if (CPU_ISSET(core, &all)) cores.push_back(core);
  return cores;
}

std::uint64_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  std::uint64_t pages = 0, resident = 0;
  statm >> pages >> resident;
  return resident * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
}

// The workers of one process: a connection each, an event a second each, spread evenly over the second.
class Workers {
 public:
  Workers(const HttpTarget& target, int count) : token_(target.token), workers_(static_cast<std::size_t>(count)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(static_cast<std::uint16_t>(std::stoi(target.url.substr(target.url.rfind(':') + 1))));
    epoll_ = FileDescriptor(epoll_create1(EPOLL_CLOEXEC));
    for (std::size_t i = 0; i < workers_.size(); ++i) {
      workers_[i].key = bench_key(i);
      workers_[i].socket = FileDescriptor(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
      const int fd = workers_[i].socket.get();
      if (fd < 0 || connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
        throw Error("bench: connection " + std::to_string(i), std::string("cannot be had: ") + std::strerror(errno));
      const int on = 1;
      setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      fcntl(fd, F_SETFL, O_NONBLOCK);
      epoll_event interest{.events = EPOLLIN, .data = {.u64 = i}};
      epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &interest);
    }
  }

  void run(double seconds) {
    const auto start = Clock::now();
    const auto total = static_cast<std::uint64_t>(seconds * static_cast<double>(workers_.size()));
    std::uint64_t sent = 0;
    delays_ms.reserve(total);
    const auto grace = std::chrono::seconds(5);
    while (answered + failed < total && Clock::now() - start < std::chrono::duration<double>(seconds) + grace) {
      const double due =
          std::chrono::duration<double>(Clock::now() - start).count() * static_cast<double>(workers_.size());
      for (; sent < total && static_cast<double>(sent) < due; ++sent)
        send_event(sent % workers_.size(),
                   start + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(
                               static_cast<double>(sent) / static_cast<double>(workers_.size()))));
      take_answers();
    }
    failed = total - answered;
  }

  std::vector<float> delays_ms;
  std::uint64_t answered = 0, failed = 0;

 private:
  struct Worker {
    std::string key{};
    FileDescriptor socket{};
    std::uint64_t sequence = 0;
    Clock::time_point happened{};
    bool waiting = false;
  };

  void send_event(std::size_t index, Clock::time_point happened) {
    Worker& worker = workers_[index];
    if (worker.waiting) return;  // its last event is not answered yet: this one is late beyond measure
    worker.happened = happened;
    char body[256];
    const auto number = static_cast<unsigned long long>(worker.sequence++);
    const int length = std::snprintf(
        body, sizeof body,
        R"({"epoch":1,"epoch_step":%llu,"epochs":15,"event":"step","images_per_s":31.4,"loss":0.4321,)"
        R"("losses":{"dice":0.3,"focal":0.1},"phase":"main","seq":%llu,"step":%llu,"steps":1000,"time":1795489159.1})"
        "\n",
        number, number, number);
    const std::string request =
        "POST /api/v1/stages/" + worker.key +
        "/attempts/1/events HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-ndjson\r\n"
        "Authorization: Bearer " +
        token_ + "\r\nContent-Length: " + std::to_string(length) + "\r\n\r\n" + body;
    worker.waiting =
        send(worker.socket.get(), request.data(), request.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(request.size());
  }

  void take_answers() {
    epoll_event ready[512];
    const int count = epoll_wait(epoll_.get(), ready, 512, 1);
    for (int i = 0; i < count; ++i) {
      Worker& worker = workers_[ready[i].data.u64];
      char answer[2048];
      const ssize_t got = recv(worker.socket.get(), answer, sizeof answer, 0);
      if (got <= 0) {
        epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, worker.socket.get(), nullptr);
        continue;
      }
      worker.waiting = false;
      if (std::string_view(answer, static_cast<std::size_t>(got)).starts_with("HTTP/1.1 204")) {
        ++answered;
        delays_ms.push_back(std::chrono::duration<float, std::milli>(Clock::now() - worker.happened).count());
      }
    }
  }

  const std::string token_;
  std::vector<Worker> workers_;
  FileDescriptor epoll_;
};

void allow_descriptors(int workers) {
  const rlim_t wanted = static_cast<rlim_t>(workers) + 500;
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  if (limit.rlim_max < wanted)
    throw Error("bench", "found a limit of " + std::to_string(limit.rlim_max) + " open files (ulimit -Hn), expected " +
                             std::to_string(wanted));
  limit.rlim_cur = std::max(limit.rlim_cur, wanted);
  setrlimit(RLIMIT_NOFILE, &limit);
}

// What the simulated workers measure; {"error"} when they cannot even connect.
Json run_workers(const Workspace& workspace, const BenchEventsOptions& options) {
  try {
    std::optional<std::string> url;
    for (int i = 0; i < 500 && !(url = server_url(workspace)); ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    if (!url) return {{"error", "the server did not start"}};
    std::this_thread::sleep_for(std::chrono::seconds(3));                        // its first look at the workspace
    const std::string token = http::load_or_make_token(workspace.token_file());  // the API's is good for every attempt
    Workers workers({.url = *url, .token = token, .certificate = ""}, options.workers);
    workers.run(options.seconds);
    auto& delays = workers.delays_ms;
    std::sort(delays.begin(), delays.end());
    return {
        {"workers", options.workers},
        {"seconds", options.seconds},
        {"events", workers.answered},
        {"failed", workers.failed},
        {"late", delays.end() - std::upper_bound(delays.begin(), delays.end(), 1000.0f)},
        {"delay_ms", {{"p50", quantile(delays, 0.5)}, {"p99", quantile(delays, 0.99)}, {"max", quantile(delays, 1)}}}};
  } catch (const std::exception& problem) {
    return {{"error", problem.what()}};
  }
}

// In a process of their own: the workers' ends of the connections count against its descriptors.
pid_t fork_workers(const Workspace& workspace, const BenchEventsOptions& options, int core, int write_end) {
  const pid_t child = fork();
  if (child < 0) throw Error("bench: fork", std::strerror(errno));
  if (child > 0) return child;
  stay_on(core);
  const std::string text = run_workers(workspace, options).dump();
  std::size_t written = 0;
  while (written < text.size()) {
    const ssize_t more = write(write_end, text.data() + written, text.size() - written);
    if (more <= 0) break;
    written += static_cast<std::size_t>(more);
  }
  _exit(0);
}

}  // namespace

Json bench_events(const BenchEventsOptions& options) {
  allow_descriptors(options.workers);
  const RemovedFolder removed(options.folder);
  const Workspace workspace(options.folder);
  make_workspace(workspace, options.workers);
  setenv("FILO_INDEX", (options.folder / "index.sqlite").c_str(), 1);
  const auto cores = usable_cores();
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) throw Error("bench: pipe", std::strerror(errno));
  const FileDescriptor read_end(ends[0]);
  FileDescriptor write_end(ends[1]);
  const pid_t child = fork_workers(workspace, options, cores.back(), write_end.get());
  write_end.reset();

  stay_on(cores.front());  // and all the threads that the server starts
  service::ServeOptions serving;
  serving.listen = "127.0.0.1:0";
  serving.limits.connections = static_cast<std::size_t>(options.workers) + 100;
  std::uint64_t resident = 0;
  const double before = cpu_seconds(CLOCK_PROCESS_CPUTIME_ID);
  const auto start = Clock::now();
  double cpu = 0, wall = 0;
  serving.stop = [&] {
    pollfd entry{read_end.get(), POLLIN, 0};
    const bool over = poll(&entry, 1, 0) > 0;
    if (!over) {
      resident = std::max(resident, resident_bytes());
      cpu = cpu_seconds(CLOCK_PROCESS_CPUTIME_ID) - before;
      wall = seconds_since(start);
    }
    return over;
  };
  std::ostringstream printed;
  std::exception_ptr problem;
  try {
    service::serve(workspace, serving, printed);
  } catch (...) {
    problem = std::current_exception();
    kill(child, SIGKILL);
  }
  std::string text;
  char buffer[4096];
  for (ssize_t got; (got = read(read_end.get(), buffer, sizeof buffer)) > 0;)
    text.append(buffer, static_cast<std::size_t>(got));
  waitpid(child, nullptr, 0);
  if (problem) std::rethrow_exception(problem);
  Json figures = Json::parse(text, nullptr, false);
  if (!figures.is_object() || figures.contains("error"))
    throw Error("bench: workers", figures.is_object() ? figures["error"].get<std::string>() : "ended without figures");
  figures["server_cores"] = cpu / wall;
  figures["resident_bytes"] = resident;
  return figures;
}

}  // namespace filo
