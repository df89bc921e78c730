#include "base/host.hpp"
#include "workspace/workspace.hpp"

namespace filo {

void Workspace::write_request(const std::string& key, const StageRequest& request) const {
  write_json(request_file(key), {{"want", request.action}, {"reason", request.reason}, {"time", wall_time_s()}});
}

std::optional<StageRequest> Workspace::request(const std::string& key) const {
  const auto json = read_json_if_sound(request_file(key));
  if (!json) return std::nullopt;
  StageRequest request{text_of(*json, "want"), text_of(*json, "reason"), number_of(*json, "time")};
  if (request.action != "cancel" && request.action != "stop") return std::nullopt;
  return request;
}

void Workspace::remove_request(const std::string& key) const { remove_file_durably(request_file(key)); }

int Workspace::retry_after(const std::string& key) const {
  const auto json = read_json_if_sound(retry_file(key));
  return json ? static_cast<int>(number_of(*json, "after_attempt")) : 0;
}

void Workspace::retry(const std::string& key) const {
  const int newest = newest_attempt(key);
  if (newest > retry_after(key)) write_json(retry_file(key), {{"after_attempt", newest}});
  remove_request(key);
}

}  // namespace filo
