// Secrets that programs hold against each other.
#pragma once

#include <string>
#include <string_view>

namespace filo {

// 256 random bits of the kernel's as 64 hex digits. Throws Error when the kernel has none to give.
std::string random_token();

// HMAC-SHA256 (RFC 2104), as 64 lower-case hex digits.
std::string hmac_sha256_hex(std::string_view key, std::string_view message);

// "Basic ...", the value of an Authorization header (RFC 7617).
std::string basic_authorization(const std::string& user, const std::string& password);

// Takes the same time wherever the two differ; only the lengths may be learnt from it.
bool equal_in_constant_time(std::string_view a, std::string_view b);

}  // namespace filo
