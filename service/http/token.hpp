// The bearer token that the server asks for.
#pragma once

#include <filesystem>
#include <string>

namespace filo::http {

// The token in `path`; made there (mode 0600) when the file is not there yet. Throws UsageError when others than its
// owner may read it, when it is shorter than 16 characters or holds what cannot stand in a header.
std::string load_or_make_token(const std::filesystem::path& path);

// Whether an Authorization header carries the token. Takes the same time wherever a wrong one differs.
bool carries_token(const std::string& authorization_header, const std::string& token);

}  // namespace filo::http
