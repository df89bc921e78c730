#include "base/process.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <initializer_list>
#include <thread>
#include <utility>

#include "base/error.hpp"
#include "base/files.hpp"

extern char** environ;

namespace filo {
namespace {

std::vector<std::string> merged_environment(const std::map<std::string, std::string>& changes) {
  std::vector<std::string> entries;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    if (!changes.contains(text.substr(0, text.find('=')))) entries.push_back(text);
  }
  for (const auto& [name, value] : changes) entries.push_back(name + "=" + value);
  return entries;
}

std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> result;
  result.reserve(strings.size() + 1);
  for (std::string& text : strings) result.push_back(text.data());
  result.push_back(nullptr);
  return result;
}

// For a child before its exec: nothing but stdin, stdout and stderr passes on. Libraries open sockets and files without
// O_CLOEXEC, and whoever inherits a listener holds its port.
void close_others_on_exec() {
  if (close_range(3, ~0u, CLOSE_RANGE_CLOEXEC) == 0) return;
  const long most = std::min(sysconf(_SC_OPEN_MAX), 65536l);  // Linux before 5.11
  for (int file = 3; file < most; ++file) fcntl(file, F_SETFD, FD_CLOEXEC);
}

// fork + exec; the child reports a failed exec through a close-on-exec pipe, so that the parent can throw.
pid_t start(std::vector<std::string> arguments, std::vector<std::string> environment, int output_fd, int error_fd,
            bool die_with_parent) {
  if (arguments.empty()) throw Error("process", "no program given");
  int report[2];
  if (pipe2(report, O_CLOEXEC) != 0) throw Error("process", std::string("pipe failed: ") + std::strerror(errno));
  FileDescriptor report_read(report[0]);
  FileDescriptor report_write(report[1]);
  auto argv = pointers(arguments);
  auto envp = pointers(environment);
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) throw Error("process: " + arguments[0], std::string("fork failed: ") + std::strerror(errno));
  if (pid == 0) {  // only async-signal-safe calls from here
    setpgid(0, 0);
    if (die_with_parent) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (getppid() != parent) _exit(127);
    }
    struct sigaction standard {};
    standard.sa_handler = SIG_DFL;
    for (const int signal : {SIGTERM, SIGINT, SIGUSR2, SIGPIPE}) sigaction(signal, &standard, nullptr);
    sigset_t none;  // a thread that leaves signals to others may have started it
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    const int null_fd = open("/dev/null", O_RDONLY);
    if (null_fd >= 0) dup2(null_fd, 0);
    if (output_fd >= 0) dup2(output_fd, 1);
    if (error_fd >= 0) dup2(error_fd, 2);
    close_others_on_exec();
    execvpe(argv[0], argv.data(), envp.data());
    const int error = errno;
    [[maybe_unused]] const ssize_t ignored = write(report_write.get(), &error, sizeof error);
    _exit(127);
  }
  setpgid(pid, pid);  // in the parent too: whoever comes first
  report_write.reset();
  int error = 0;
  ssize_t got;
  do got = read(report_read.get(), &error, sizeof error);
  while (got < 0 && errno == EINTR);
  if (got == sizeof error) {
    waitpid(pid, nullptr, 0);
    throw Error("process: " + arguments[0], std::string("cannot be started: ") + std::strerror(error));
  }
  return pid;
}

ProcessResult to_result(int status) {
  if (WIFSIGNALED(status)) return {.exit_code = 128 + WTERMSIG(status), .signal = WTERMSIG(status)};
  return {.exit_code = WEXITSTATUS(status), .signal = 0};
}

}  // namespace

Process::Process(const ProcessOptions& options) {
  FileDescriptor output;
  if (options.output_file) output = open_file(*options.output_file, O_WRONLY | O_CREAT | O_APPEND);
  pid_ = start(options.arguments, merged_environment(options.environment), output.get(), output.get(),
               options.die_with_parent);
}

Process::Process(Process&& other) noexcept : pid_(std::exchange(other.pid_, -1)), result_(other.result_) {}

Process::~Process() {
  if (pid_ < 0 || result_) return;
  signal_group(SIGKILL);
  wait();
}

std::optional<ProcessResult> Process::poll() {
  if (result_) return result_;
  int status = 0;
  const pid_t got = waitpid(pid_, &status, WNOHANG);
  if (got == pid_) result_ = to_result(status);
  return result_;
}

ProcessResult Process::wait() {
  if (result_) return *result_;
  int status = 0;
  while (waitpid(pid_, &status, 0) < 0)
    if (errno != EINTR) throw Error("process", std::string("waitpid failed: ") + std::strerror(errno));
  result_ = to_result(status);
  return *result_;
}

void Process::signal_group(int signal) {
  if (pid_ > 0 && !result_) kill(-pid_, signal);
}

CapturedOutput run_and_capture(const std::vector<std::string>& arguments, double timeout_s, bool with_stderr) {
  int channel[2];
  if (pipe2(channel, O_CLOEXEC) != 0) throw Error("process", std::string("pipe failed: ") + std::strerror(errno));
  FileDescriptor read_end(channel[0]);
  FileDescriptor write_end(channel[1]);
  const pid_t pid = start(arguments, merged_environment({}), write_end.get(), with_stderr ? write_end.get() : -1, true);
  write_end.reset();

  const auto deadline = std::chrono::steady_clock::now() + std::chrono::duration<double>(timeout_s);
  CapturedOutput captured;
  char buffer[65536];
  for (;;) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0) {
      kill(-pid, SIGKILL);
      break;
    }
    pollfd waiting{.fd = read_end.get(), .events = POLLIN, .revents = 0};
    if (::poll(&waiting, 1, static_cast<int>(left.count()) + 1) <= 0) continue;
    const ssize_t got = read(read_end.get(), buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    captured.output.append(buffer, static_cast<std::size_t>(got));
  }
  int status = 0;
  for (;;) {
    const pid_t got = waitpid(pid, &status, WNOHANG);
    if (got == pid || (got < 0 && errno != EINTR)) break;
    if (std::chrono::steady_clock::now() > deadline) kill(-pid, SIGKILL);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  captured.result = to_result(status);
  return captured;
}

}  // namespace filo
