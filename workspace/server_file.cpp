#include "workspace/server_file.hpp"

#include <unistd.h>

#include "base/files.hpp"
#include "base/host.hpp"
#include "base/json.hpp"

namespace filo {

ServerFile::ServerFile(const WorkspaceLayout& layout, const HttpTarget& server) : path_(layout.server_file()) {
  Json json = {{"url", server.url}, {"token", server.token}, {"host", host_name()}, {"pid", getpid()}};
  if (!server.certificate.empty()) json["certificate"] = server.certificate;
  text_ = json.dump(2) + "\n";
  write_file_atomically(path_, text_, 0600);
}

ServerFile::~ServerFile() {
  try {
    if (read_file(path_) == text_) std::filesystem::remove(path_);
  } catch (const std::exception&) {  // gone already
  }
}

std::optional<HttpTarget> read_server_file(const std::filesystem::path& path) {
  const auto json = read_json_if_sound(path);
  if (!json || !json->is_object() || !json->contains("token")) return std::nullopt;
  HttpTarget target{text_of(*json, "url"), text_of(*json, "token"), text_of(*json, "certificate")};
  return is_usable(target) ? std::optional(std::move(target)) : std::nullopt;
}

}  // namespace filo
