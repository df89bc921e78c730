#include "workspace/server_file.hpp"

#include <algorithm>

#include "base/files.hpp"
#include "base/host.hpp"
#include "base/json.hpp"
#include "base/secrets.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;

// "http://127.0.0.1:8321", "https://localhost", "http://[::1]:80": what stands for another machine on each.
bool is_loopback(const std::string& url) {
  const auto begin = url.find("://");
  const std::string rest = begin == std::string::npos ? url : url.substr(begin + 3);
  return rest.starts_with("127.") || rest.starts_with("localhost") || rest.starts_with("[::1]") ||
         rest.starts_with("[::ffff:127.");
}

// The file's content; unset where it is none, or its server is gone.
std::optional<Json> of_living_server(const Workspace& workspace, const fs::path& file) {
  auto json = read_json_if_sound(file);
  if (!json || !json->is_object() || !json->contains("url")) return std::nullopt;
  return claim_holds(*json, [&] { return workspace.age_s(file); }) ? std::move(json) : std::nullopt;
}

}  // namespace

std::string events_secret(const std::string& api_token) { return hmac_sha256_hex(api_token, "filo events"); }

std::string attempt_token(const std::string& events_secret, const std::string& stage, int attempt) {
  return hmac_sha256_hex(events_secret, stage + "/" + std::to_string(attempt));
}

ServerFile::ServerFile(const WorkspaceLayout& layout, const Content& content) : path_(layout.server_file()) {
  Json json = process_claim();
  json["url"] = content.url;
  json["events_secret"] = content.events_secret;
  if (!content.certificate.empty()) json["certificate"] = content.certificate;
  text_ = json.dump(2) + "\n";
  write_file_atomically(path_, text_, 0600);
  heartbeat_.add(path_);
}

ServerFile::~ServerFile() {
  try {
    if (read_file(path_) == text_) fs::remove(path_);
  } catch (const std::exception&) {  // gone already
  }
}

std::optional<std::string> server_url(const Workspace& workspace) {
  const auto json = of_living_server(workspace, workspace.server_file());
  return json ? std::optional(text_of(*json, "url")) : std::nullopt;
}

std::optional<HttpTarget> find_server(const Workspace& workspace, const fs::path& file, const std::string& stage,
                                      int attempt) {
  const auto json = of_living_server(workspace, file);
  if (!json) return std::nullopt;
  const std::string secret = text_of(*json, "events_secret");
  HttpTarget target{text_of(*json, "url"), attempt_token(secret, stage, attempt), text_of(*json, "certificate")};
  if (secret.empty() || !is_usable(target)) return std::nullopt;
  if (is_loopback(target.url) && text_of(*json, "host") != host_name()) return std::nullopt;
  return target;
}

}  // namespace filo
