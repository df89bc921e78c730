// The one logger: one line a message on stderr. The only global state of the project.
//
// The interface hides spdlog: LibTorch ships a newer fmt among its headers, which a file that sees both cannot compile
// with.
#pragma once

#include <string>

namespace filo {

// `who` is put before each message ("filo", "filo-worker 1/2"). Level from FILO_LOG (trace, debug, info, warn, error),
// default info.
void start_logging(const std::string& who);

void log_debug(const std::string& message);
void log_info(const std::string& message);
void log_warning(const std::string& message);

}  // namespace filo
