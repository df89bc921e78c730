// WORKSPACE/server.json: where a running `filo serve` is, so that workers find it. The server writes it, workers read
// it.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "base/http_poster.hpp"
#include "workspace/layout.hpp"

namespace filo {

// The file while this lives, of this process on this host; only its owner may read it, because the token stands in it.
// At the end it goes, unless another server has written its own meanwhile.
class ServerFile {
 public:
  ServerFile(const WorkspaceLayout& layout, const HttpTarget& server);
  ~ServerFile();
  ServerFile(const ServerFile&) = delete;
  ServerFile& operator=(const ServerFile&) = delete;

 private:
  std::filesystem::path path_;
  std::string text_;
};

// Unset: no such file, or not of this form.
std::optional<HttpTarget> read_server_file(const std::filesystem::path& path);

}  // namespace filo
