// WORKSPACE/server.json: where a running `filo serve` is, so that workers find it. The server writes it, workers read
// it.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "base/http_poster.hpp"
#include "workspace/claim.hpp"
#include "workspace/workspace.hpp"

namespace filo {

// What the tokens of attempts are derived from (HMAC-SHA256): of it the API's token cannot be learnt.
std::string events_secret(const std::string& api_token);

// With it the worker of one attempt posts that attempt's events; it is good for nothing else.
std::string attempt_token(const std::string& events_secret, const std::string& stage, int attempt);

// The file while this lives, of this process on this host: {"url", "events_secret", "certificate" (with TLS), and
// process_claim()'s members}, touched every few seconds. Only its owner may read it, because the secret stands in it.
// At the end it goes, unless another server has written its own meanwhile.
class ServerFile {
 public:
  struct Content {
    std::string url;
    std::string events_secret;
    std::string certificate;  // PEM; "": none
  };
  ServerFile(const WorkspaceLayout& layout, const Content& content);
  ~ServerFile();
  ServerFile(const ServerFile&) = delete;
  ServerFile& operator=(const ServerFile&) = delete;

 private:
  std::filesystem::path path_;
  std::string text_;
  Heartbeat heartbeat_;
};

// Address of the server that looks after the workspace, on whatever host; unset: none lives.
std::optional<std::string> server_url(const Workspace& workspace);

// Where the worker of an attempt posts its events, and its token. Unset: no such file, or not of this form; its server
// is gone (the file stays after a kill -9); its address is a loopback one, and the server is on another host: who knows
// what listens there on this one.
std::optional<HttpTarget> find_server(const Workspace& workspace, const std::filesystem::path& file,
                                      const std::string& stage, int attempt);

}  // namespace filo
