#include "base/failpoints.hpp"

#include <algorithm>
#include <cassert>
#include <csignal>
#include <cstdlib>
#include <string>

namespace filo {

void pass_failpoint(std::string_view name) {
  assert(std::find(failpoints.begin(), failpoints.end(), name) != failpoints.end());
  const char* chosen = std::getenv("FILO_FAILPOINT");
  if (chosen == nullptr || *chosen == '\0') return;
  const std::string_view text = chosen;
  const auto colon = text.find(':');
  if (text.substr(0, colon) != name) return;
  static int passings = 0;  // of the one point that is named
  const int at = colon == std::string_view::npos ? 1 : std::atoi(std::string(text.substr(colon + 1)).c_str());
  if (++passings == at) raise(SIGKILL);
}

}  // namespace filo
