#include "settings/resources.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace filo {

std::uint64_t memory_in_bytes(const std::string& text) {
  const std::string units = "KMGT";
  std::uint64_t bytes = std::stoull(text);
  for (std::size_t i = 0; i <= units.find(text.back()); ++i) bytes *= 1024;
  return bytes;
}

std::int64_t time_in_seconds(const std::string& text) {
  long hours = 0;
  long minutes = 0;
  long seconds = 0;
  std::sscanf(text.c_str(), "%ld:%ld:%ld", &hours, &minutes, &seconds);
  return hours * 3600 + minutes * 60 + seconds;
}

std::string memory_text(std::uint64_t bytes) {
  const std::uint64_t mebibytes = (bytes + (1u << 20) - 1) >> 20;
  if (mebibytes % 1024 == 0) return std::to_string(mebibytes / 1024) + "G";
  return std::to_string(mebibytes) + "M";
}

std::string time_text(std::int64_t seconds) {
  const std::int64_t capped = std::min<std::int64_t>(seconds, 9999LL * 3600 + 59 * 60 + 59);
  char text[32];
  std::snprintf(text, sizeof text, "%02d:%02d:%02d", static_cast<int>(capped / 3600),
                static_cast<int>(capped / 60 % 60), static_cast<int>(capped % 60));
  return text;
}

ResourceSettings grown(ResourceSettings resources, int timeouts, int out_of_memory) {
  if (timeouts > 0) resources.time = time_text(time_in_seconds(resources.time) << std::min(timeouts, 20));
  if (out_of_memory > 0)
    resources.memory = memory_text(static_cast<std::uint64_t>(static_cast<double>(memory_in_bytes(resources.memory)) *
                                                              std::pow(1.5, std::min(out_of_memory, 20))));
  return resources;
}

}  // namespace filo
