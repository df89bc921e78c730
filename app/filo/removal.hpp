// What the commands share that show what they would remove, and ask.
#pragma once

#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <string>
#include <system_error>

#include "base/error.hpp"

namespace filo {

// "82.5 MB", "1.2 GB".
inline std::string size_text(std::uintmax_t bytes) {
  char text[32];
  if (bytes < 1'000'000'000)
    std::snprintf(text, sizeof text, "%.1f MB", static_cast<double>(bytes) / 1e6);
  else
    std::snprintf(text, sizeof text, "%.1f GB", static_cast<double>(bytes) / 1e9);
  return text;
}

// Of all files below the folder, as far as they are still there.
inline std::uintmax_t bytes_below(const std::filesystem::path& folder) {
  std::uintmax_t bytes = 0;
  std::error_code error;
  std::filesystem::recursive_directory_iterator entry(folder, error), end;
  for (; !error && entry != end; entry.increment(error)) {
    std::error_code gone;
    if (const auto size = entry->is_regular_file(gone) ? entry->file_size(gone) : 0; !gone) bytes += size;
  }
  return bytes;
}

// Asks at the terminal. Throws UsageError with the component where there is none.
inline bool is_agreed_to(const std::string& component) {
  if (isatty(STDIN_FILENO) == 0)
    throw UsageError(component, "found no terminal to ask at, expected --yes: nothing was removed");
  std::printf("remove them? [y/N] ");
  std::fflush(stdout);
  std::string answer;
  return std::getline(std::cin, answer) && (answer == "y" || answer == "yes");
}

}  // namespace filo
