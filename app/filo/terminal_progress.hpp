// A line that counts up, for loops over files (data/parallel.hpp).
#pragma once

#include <unistd.h>

#include <cstdio>
#include <string>

#include "data/parallel.hpp"

namespace filo {

// On a terminal only; null elsewhere.
inline Progress terminal_progress(const std::string& what) {
  if (isatty(STDERR_FILENO) == 0) return nullptr;
  return [what](std::size_t done, std::size_t total) {
    if (done != total && done % 16 != 0) return;
    std::fprintf(stderr, "\r%s %zu / %zu%s", what.c_str(), done, total, done == total ? "\n" : "");
  };
}

}  // namespace filo
