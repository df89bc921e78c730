// Arithmetic on what a stage asks for: texts of the settings ("4G", "01:00:00") as numbers and back.
#pragma once

#include <cstdint>
#include <string>

#include "settings/settings.hpp"

namespace filo {

std::uint64_t memory_in_bytes(const std::string& text);  // "4G": a number and one of K, M, G, T, as the schema allows
std::int64_t time_in_seconds(const std::string& text);   // "01:00:00"
std::string memory_text(std::uint64_t bytes);            // in whole units, rounded up to MiB: "6G", "1536M"
std::string time_text(std::int64_t seconds);             // at most 9999:59:59

// What the next attempt gets: twice the time for each attempt that ran out of time, 1.5 times the memory for each that
// ran out of memory.
ResourceSettings grown(ResourceSettings resources, int timeouts, int out_of_memory);

}  // namespace filo
