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

}  // namespace filo
