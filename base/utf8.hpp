// Text from outside (names of files, words of a command line) on its way into JSON and messages, which hold UTF-8.
#pragma once

#include <string>
#include <string_view>

namespace filo {

// Whether JSON takes it: well-formed UTF-8, no surrogates, nothing overlong.
bool is_utf8(std::string_view text);

// For a message of one line: bytes that are not UTF-8 and control characters as \xE9, all else as it is.
std::string printable(std::string_view text);

}  // namespace filo
