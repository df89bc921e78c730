#include "service/http/token.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>

#include "base/error.hpp"
#include "base/files.hpp"
#include "base/secrets.hpp"

namespace filo::http {

std::string load_or_make_token(const std::filesystem::path& path) {
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) create_file_exclusively(path, random_token() + "\n", 0600);
  const FileDescriptor file = open_file(path, O_RDONLY);
  struct stat status {};
  if (fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode) || (status.st_mode & 077) != 0) {
    char mode[8];
    std::snprintf(mode, sizeof mode, "%04o", status.st_mode & 07777);
    throw UsageError("serve: " + path.string(),
                     std::string("found mode ") + mode + ", expected a file that only its owner can read (chmod 600)");
  }
  std::string token = read_file(path);
  while (!token.empty() && (token.back() == '\n' || token.back() == '\r' || token.back() == ' ')) token.pop_back();
  const auto printable = [](unsigned char c) { return c > ' ' && c < 127; };
  if (token.size() < 16 || token.size() > 1024 || !std::all_of(token.begin(), token.end(), printable))
    throw UsageError("serve: " + path.string(),
                     "found " + std::to_string(token.size()) +
                         " characters, expected a token of 16 to 1024 printable ones; remove "
                         "the file to have one made");
  return token;
}

bool carries_token(const std::string& authorization_header, const std::string& token) {
  constexpr std::string_view scheme = "bearer ";
  if (token.empty() || authorization_header.size() < scheme.size()) return false;
  for (std::size_t i = 0; i < scheme.size(); ++i)
    if ((authorization_header[i] | 0x20) != (scheme[i] | 0x20)) return false;
  return equal_in_constant_time(std::string_view(authorization_header).substr(scheme.size()), token);
}

}  // namespace filo::http
