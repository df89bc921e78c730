#include "scheduler/executors/doctor/tools.hpp"

#include <unistd.h>

#include <algorithm>
#include <chrono>

#include "base/error.hpp"
#include "base/process.hpp"
#include "base/text.hpp"

namespace filo {

namespace fs = std::filesystem;

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

std::string shortened(std::string text) {
  while (!text.empty() && text.back() == '\n') text.pop_back();
  std::replace(text.begin(), text.end(), '\n', ';');
  return text.size() > 300 ? cut_text(text, 300) + "..." : text;
}

bool two_ranks_came_up(const std::string& output) { return output.find("/2: ") != std::string::npos; }

CommandResult try_to_run(const std::vector<std::string>& arguments, double timeout_s) {
  try {
    const auto captured = run_and_capture(arguments, timeout_s, /*with_stderr=*/true);
    return {captured.result.ok(), captured.output};
  } catch (const Error& error) {
    return {false, error.what()};
  }
}

TemporaryFolder::TemporaryFolder(const fs::path& parent)
    : path_(parent / (".doctor-" + std::to_string(getpid()) + "-" +
                      std::to_string(std::chrono::steady_clock::now().time_since_epoch().count()))) {
  fs::create_directories(path_);
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

std::string to_string(Check::Verdict verdict) {
  switch (verdict) {
    case Check::Verdict::good:
      return "good";
    case Check::Verdict::warning:
      return "warning";
    case Check::Verdict::bad:
      return "bad";
  }
  return "";
}

Json to_json(const Check& check) {
  return {{"name", check.name}, {"verdict", to_string(check.verdict)}, {"found", check.found}, {"mend", check.mend}};
}

}  // namespace filo
