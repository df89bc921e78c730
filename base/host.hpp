// This machine and its clock.
#pragma once

#include <filesystem>
#include <string>

namespace filo {

std::string host_name();  // as gethostname(2) tells it

// The first line of a file of the kernel's (/proc, /sys); "" where there is none.
std::string kernel_line(const std::filesystem::path& path);

std::string boot_id();  // another one after each start of the machine; "" where the kernel tells none

double wall_time_s();  // seconds since 1970, by this machine's clock

// Seconds since 1970 in this machine's time zone, as strftime writes them; at most 31 bytes.
std::string local_time(double seconds, const char* format);

}  // namespace filo
