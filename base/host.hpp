// This machine and its clock.
#pragma once

#include <string>

namespace filo {

std::string host_name();  // as gethostname(2) tells it

double wall_time_s();  // seconds since 1970, by this machine's clock

}  // namespace filo
