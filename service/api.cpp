#include "service/api.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <set>

#include "base/error.hpp"
#include "base/hash.hpp"
#include "service/api_json.hpp"
#include "service/assets.hpp"
#include "service/stage_files.hpp"
#include "workspace/server_file.hpp"

namespace filo::service {
namespace {

using http::Problem;
using http::Request;
using http::Response;

constexpr std::size_t most_event_body = 1 << 20;
constexpr std::int64_t most_listed = 10'000;

// Keys reach paths: nothing but 16 hex digits goes further.
std::string checked_stage_key(const Request& request) {
  const std::string& key = request.parameters.at("key");
  if (!is_stage_key(key)) throw Problem(404, "stage: expected a key of 16 hex digits");
  return key;
}

bool is_number_from_one(const std::string& text) {
  return !text.empty() && text.size() <= 9 && text.find_first_not_of("0123456789") == std::string::npos &&
         text[0] != '0';
}

int checked_number(const std::string& text, const char* what) {
  if (!is_number_from_one(text)) throw Problem(404, std::string(what) + ": expected a number from 1");
  return std::stoi(text);
}

class Api {
 public:
  explicit Api(const ApiContext& context) : context_(context) {}

  void add_routes(http::Router& router, std::shared_ptr<Api> self) {
    const auto get = [&](const char* pattern, Response (Api::*answer)(const Request&), bool quick = false) {
      router.add({.method = "GET",
                  .pattern = pattern,
                  .handler = [self, answer](const Request& request) { return (*self.*answer)(request); },
                  .quick = quick});
    };
    const auto post = [&](const char* pattern, Response (Api::*answer)(const Request&)) {
      router.add({.method = "POST", .pattern = pattern, .handler = [self, answer](const Request& request) {
                    return (*self.*answer)(request);
                  }});
    };
    get("/api/v1/experiments", &Api::experiments);
    get("/api/v1/experiments/{name}", &Api::experiment);
    get("/api/v1/experiments/{name}/tables", &Api::tables);
    get("/api/v1/experiments/{name}/grid", &Api::grid);
    get("/api/v1/experiments/{name}/trials", &Api::trials);
    get("/api/v1/experiments/{name}/trials/{trial}", &Api::trial);
    post("/api/v1/experiments/{name}/cancel", &Api::cancel_experiment);
    post("/api/v1/experiments/{name}/retry", &Api::retry_experiment);
    get("/api/v1/stages", &Api::stages);
    get("/api/v1/stages/{key}", &Api::stage);
    get("/api/v1/stages/{key}/attempts", &Api::attempts);
    get("/api/v1/stages/{key}/attempts/{attempt}/log", &Api::log);
    get("/api/v1/stages/{key}/attempts/{attempt}/events", &Api::event_page);
    get("/api/v1/stages/{key}/events", &Api::follow_stage);
    get("/api/v1/stages/{key}/curves", &Api::curves);
    get("/api/v1/stages/{key}/artifacts", &Api::artifacts);
    get("/api/v1/stages/{key}/artifacts/{path*}", &Api::artifact);
    post("/api/v1/stages/{key}/cancel", &Api::cancel_stage);
    post("/api/v1/stages/{key}/retry", &Api::retry_stage);
    get("/api/v1/events", &Api::follow_workspace);
    get("/metrics", &Api::metrics);
    router.add({.method = "POST",
                .pattern = "/api/v1/stages/{key}/attempts/{attempt}/events",
                .handler = [self](const Request& request) { return self->take_events(request); },
                .own_token = [self](const auto& parameters) { return self->token_of_attempt(parameters); },
                .quick = true,
                .most_body_bytes = most_event_body});
    const auto open = [&](std::string pattern, http::Handler handler) {
      router.add({.method = "GET",
                  .pattern = std::move(pattern),
                  .handler = std::move(handler),
                  .needs_token = false,
                  .quick = true});
    };
    open("/healthz", [self](const Request&) {
      return http::json_response({{"status", "ok"}, {"version", self->context_.version}});
    });
    for (const Asset& file : assets())
      if (file.path != "/openapi.json" && !file.path.starts_with("/js/"))
        open(std::string(file.path), [&file](const Request& request) { return asset(&file, request); });
    open("/js/{path*}",
         [](const Request& request) { return asset(find_asset("/js/" + request.parameters.at("path")), request); });
    get("/openapi.json", &Api::openapi);
  }

 private:
  static Response asset(const Asset* found, const Request& request) {
    if (found == nullptr) throw Problem(404, "the page has no such file");
    const std::string tag = "\"" + sha256_hex(found->bytes).substr(0, 16) + "\"";
    Response response{.content_type = std::string(found->media_type),
                      .headers = {{"ETag", tag}, {"Cache-Control", "no-cache"}}};
    if (request.header("if-none-match") == tag)
      response.status = 304;
    else
      response.body = std::string(found->bytes);
    return response;
  }

  Response openapi(const Request& request) { return asset(find_asset("/openapi.json"), request); }

  std::pair<std::string, std::shared_ptr<const ExperimentView>> find_experiment(const Request& request) const {
    const std::string& name = request.parameters.at("name");
    const auto view = context_.monitor.view();
    const auto found = view->experiments.find(name);
    if (found == view->experiments.end()) throw Problem(404, "no experiment of this name");
    return *found;
  }

  // Stages that a plan names, and no other folder of the workspace.
  std::pair<std::shared_ptr<const View>, std::vector<View::Found>> find_stage(const Request& request) const {
    auto view = context_.monitor.view();
    auto found = view->find(checked_stage_key(request));
    if (found.empty()) throw Problem(404, "no experiment has a stage with this key");
    return {std::move(view), std::move(found)};
  }

  std::string known_stage(const Request& request) const {
    find_stage(request);
    return request.parameters.at("key");
  }

  // {attempt} is a number or "newest".
  int known_attempt(const Request& request, const std::string& key) const {
    const std::string& text = request.parameters.at("attempt");
    const int newest = context_.workspace.newest_attempt(key);
    const int attempt = text == "newest" ? newest : checked_number(text, "attempt");
    if (attempt < 1 || attempt > newest) throw Problem(404, "the stage has " + std::to_string(newest) + " attempts");
    return attempt;
  }

  // 304 when the client has this revision already.
  static Response tagged(const Request& request, std::uint64_t revision, const std::function<Json()>& make) {
    const std::string tag = "\"" + std::to_string(revision) + "-" + std::to_string(getpid()) + "\"";
    if (request.header("if-none-match") == tag) return {.status = 304, .headers = {{"ETag", tag}}};
    Response response = http::json_response(make());
    response.headers.emplace_back("ETag", tag);
    return response;
  }

  Response experiments(const Request&) {
    const auto view = context_.monitor.view();
    Json all = Json::array();
    for (const auto& [name, experiment] : view->experiments) all.push_back(experiment_json(name, *experiment));
    return http::json_response({{"workspace", context_.workspace.root().string()},
                                {"version", context_.version},
                                {"time", view->time},
                                {"problem", view->problem},
                                {"experiments", std::move(all)}});
  }

  Response experiment(const Request& request) {
    const auto [name, experiment] = find_experiment(request);
    Json json = experiment_json(name, *experiment);
    json["settings"] = experiment->plan->plan.experiment;
    std::set<std::string> folds;
    for (const auto& trial : experiment->plan->plan.trials) folds.insert(trial.fold);
    json["folds"] = folds;
    json["kinds"] = Json::object();
    json["troubles"] = Json::array();
    json["running"] = Json::array();
    constexpr std::size_t most = 50;
    for (std::uint32_t i = 0; i < experiment->statuses->size(); ++i) {
      const StageStatus& status = (*experiment->statuses)[i];
      Json& counts = json["kinds"][to_string(experiment->plan->plan.stages[i].kind)];
      if (!counts.is_object()) counts = Json::object();
      counts[to_string(status.state)] = counts.value(to_string(status.state), 0) + 1;
      const bool troubled =
          status.state == StageState::failed || (status.counts.failures > 0 && status.state != StageState::done);
      for (const auto& [wanted, list] :
           {std::pair(troubled, "troubles"), std::pair(status.state == StageState::running, "running")})
        if (wanted && json[list].size() < most)
          json[list].push_back(stage_json({experiment.get(), name, i}, context_.hub));
    }
    return http::json_response(json);
  }

  Response tables(const Request& request) {
    const auto found = find_experiment(request).second;
    return tagged(request, found->revision, [&] {
      return Json{{"revision", found->revision}, {"tables", *found->tables}};
    });
  }

  Response grid(const Request& request) {
    const auto found = find_experiment(request).second;
    return tagged(request, found->revision, [&] {
      Json states = Json::array(), cells = Json::array();
      for (const StageState state : all_states()) states.push_back(to_string(state));
      for (std::size_t trial = 0; trial < found->plan->trials.size(); ++trial)
        cells.push_back(static_cast<int>(
            std::find(all_states().begin(), all_states().end(), trial_state(*found, trial)) - all_states().begin()));
      return Json{{"revision", found->revision}, {"states", std::move(states)}, {"cells", std::move(cells)}};
    });
  }

  Response trials(const Request& request) {
    const auto found = find_experiment(request).second;
    const auto offset = static_cast<std::size_t>(request.number("offset", 0, 0, 1'000'000));
    const auto limit = static_cast<std::size_t>(request.number("limit", 100, 1, most_listed));
    const std::string state = request.query("state"), fold = request.query("fold");
    Json listed = Json::array();
    std::size_t total = 0;
    for (std::size_t trial = 0; trial < found->plan->trials.size(); ++trial) {
      if (!fold.empty() && found->plan->plan.trials[trial].fold != fold) continue;
      if (!state.empty() && to_string(trial_state(*found, trial)) != state) continue;
      if (total++ >= offset && listed.size() < limit) listed.push_back(trial_json(*found, trial));
    }
    return http::json_response({{"total", total}, {"offset", offset}, {"trials", std::move(listed)}});
  }

  Response trial(const Request& request) {
    const auto found = find_experiment(request).second;
    const std::string& text = request.parameters.at("trial");
    const auto trial = static_cast<std::size_t>(text == "0" ? 0 : checked_number(text, "trial"));
    if (trial >= found->plan->trials.size())
      throw Problem(404, "the experiment has " + std::to_string(found->plan->trials.size()) + " trials");
    return http::json_response(trial_json(*found, trial));
  }

  Response stages(const Request& request) {
    const auto view = context_.monitor.view();
    const auto offset = static_cast<std::size_t>(request.number("offset", 0, 0, 10'000'000));
    const auto limit = static_cast<std::size_t>(request.number("limit", 100, 1, most_listed));
    const std::string state = request.query("state"), kind = request.query("kind"),
                      wanted = request.query("experiment");
    std::set<std::string_view> seen;
    const bool may_repeat = wanted.empty() && view->experiments.size() > 1;
    Json listed = Json::array();
    std::size_t total = 0;
    for (const auto& [name, experiment] : view->experiments) {
      if (!wanted.empty() && name != wanted) continue;
      for (std::uint32_t i = 0; i < experiment->statuses->size(); ++i) {
        const StageStatus& status = (*experiment->statuses)[i];
        if (!state.empty() && to_string(status.state) != state) continue;
        if (!kind.empty() && to_string(experiment->plan->plan.stages[i].kind) != kind) continue;
        if (may_repeat && !seen.insert(status.key).second) continue;
        if (total++ >= offset && listed.size() < limit)
          listed.push_back(stage_json({experiment.get(), name, i}, context_.hub));
      }
    }
    return http::json_response({{"total", total}, {"offset", offset}, {"stages", std::move(listed)}});
  }

  Response stage(const Request& request) {
    const auto [view, found] = find_stage(request);
    return http::json_response(stage_details_json(context_, *view, found));
  }

  Response attempts(const Request& request) {
    return http::json_response({{"attempts", attempts_json(context_.workspace, known_stage(request))}});
  }

  // Either Range, or ?tail=LINES, or ?offset=BYTES&limit=BYTES.
  Response log(const Request& request) {
    const std::string key = known_stage(request);
    const int attempt = known_attempt(request, key);
    Response response{.content_type = "text/plain; charset=utf-8"};
    const auto folder = context_.workspace.stage_folder(key);
    auto file =
        open_beneath(folder, context_.workspace.log_file(key, attempt).lexically_relative(folder).generic_string());
    struct stat status {};
    const std::uint64_t size =
        file && fstat(file->get(), &status) == 0 ? static_cast<std::uint64_t>(status.st_size) : 0;
    std::uint64_t offset = 0, length = size;
    if (file && !request.query("tail").empty()) {
      offset = size - tail_bytes(*file, size, static_cast<std::size_t>(request.number("tail", 0, 1, 10'000)));
      length = size - offset;
    } else if (const auto range = file ? http::parse_range(request.header("range"), size) : std::nullopt) {
      std::tie(offset, length) = *range;
      http::set_partial(response, offset, length, size);
    } else {
      offset = std::min<std::uint64_t>(size, static_cast<std::uint64_t>(request.number("offset", 0, 0, INT64_MAX)));
      length = std::min<std::uint64_t>(size - offset,
                                       static_cast<std::uint64_t>(request.number("limit", INT64_MAX, 1, INT64_MAX)));
    }
    const bool ended =
        context_.workspace.outcome(key, attempt).has_value() || context_.workspace.newest_attempt(key) > attempt;
    response.headers.insert(response.headers.end(), {{"Filo-Attempt", std::to_string(attempt)},
                                                     {"Filo-Log-Offset", std::to_string(offset)},
                                                     {"Filo-Log-Bytes", std::to_string(size)},
                                                     {"Filo-Ended", ended ? "true" : "false"},
                                                     {"Accept-Ranges", "bytes"}});
    if (file) response.body = http::FilePart{std::move(*file), offset, length};
    return response;
  }

  // The bytes that the last `lines` lines take, at most a mebibyte.
  static std::uint64_t tail_bytes(const FileDescriptor& file, std::uint64_t size, std::size_t lines) {
    std::string text(std::min<std::uint64_t>(size, 1 << 20), '\0');
    const ssize_t got = pread(file.get(), text.data(), text.size(), static_cast<off_t>(size - text.size()));
    text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    std::size_t from = text.ends_with('\n') ? text.size() - 1 : text.size();
    for (std::size_t line = 0; line < lines; ++line) {
      from = from == 0 ? std::string::npos : text.rfind('\n', from - 1);
      if (from == std::string::npos) return text.size();
    }
    return text.size() - from - 1;
  }

  Response event_page(const Request& request) {
    const std::string key = known_stage(request);
    const int attempt = known_attempt(request, key);
    const std::int64_t after = request.number("after", -1, -1, INT64_MAX);
    const auto limit = static_cast<std::size_t>(request.number("limit", 1000, 1, most_listed));
    Json events = Json::array();
    bool more = false;
    std::size_t bytes = 0;
    EventReader file(context_.workspace.events_file(key, attempt), attempt);
    for (auto lines = file.read_lines(); !lines.empty() && !more; lines = file.read_lines())
      for (const auto& line : lines) {
        if (line.sequence <= after) continue;
        more = events.size() == limit || bytes > (8 << 20);
        if (more) break;
        bytes += line.text.size();
        events.push_back(Json::parse(line.text));
      }
    return http::json_response({{"attempt", attempt}, {"events", std::move(events)}, {"more", more}});
  }

  Response curves(const Request& request) {
    return http::json_response(curves_json(context_.workspace, known_stage(request),
                                           static_cast<std::size_t>(request.number("points", 500, 2, 10'000))));
  }

  std::pair<std::string, StageResult> known_result(const Request& request) const {
    const auto [view, found] = find_stage(request);
    const PlannedStage& stage = found.front().experiment->plan->plan.stages[found.front().position];
    auto result = context_.workspace.result(stage.key, stage.kind);
    if (!result) throw Problem(404, "the stage has no result yet");
    return {stage.key, std::move(*result)};
  }

  Response artifacts(const Request& request) {
    const auto [key, result] = known_result(request);
    const auto files = artifact_files(context_.workspace, key, result, static_cast<std::size_t>(most_listed));
    Json listed = Json::array();
    for (const auto& file : files)
      listed.push_back({{"path", file.path}, {"bytes", file.bytes}, {"media_type", media_type(file.path)}});
    return http::json_response(
        {{"artifacts", std::move(listed)}, {"complete", files.size() < static_cast<std::size_t>(most_listed)}});
  }

  Response artifact(const Request& request) {
    const auto [key, result] = known_result(request);
    const std::string& path = request.parameters.at("path");
    auto file = open_artifact(context_.workspace, key, result, path);
    struct stat status {};
    if (!file || fstat(file->get(), &status) != 0) throw Problem(404, "no artifact of this name");
    const auto size = static_cast<std::uint64_t>(status.st_size);
    Response response{.content_type = media_type(path), .headers = {{"Accept-Ranges", "bytes"}}};
    if (response.content_type == "application/octet-stream")
      response.headers.emplace_back("Content-Disposition", "attachment");
    std::uint64_t offset = 0, length = size;
    if (const auto range = http::parse_range(request.header("range"), size)) {
      std::tie(offset, length) = *range;
      http::set_partial(response, offset, length, size);
    }
    response.body = http::FilePart{std::move(*file), offset, length};
    return response;
  }

  Response follow_stage(const Request& request) {
    const std::string key = known_stage(request);
    EventPosition position;
    const std::string id = request.header("last-event-id");
    if (!id.empty()) {
      const auto parsed = parse_event_id(id);
      if (!parsed) throw Problem(400, "Last-Event-ID: expected ATTEMPT-SEQUENCE");
      position = *parsed;
    }
    return {.content_type = "text/event-stream", .body = stage_events(context_.workspace, context_.hub, key, position)};
  }

  Response follow_workspace(const Request& request) {
    return {.content_type = "text/event-stream",
            .body = workspace_events(context_.hub, request.header("last-event-id"))};
  }

  Response metrics(const Request&) {
    return {.content_type = "text/plain; version=0.0.4; charset=utf-8", .body = prometheus_text(context_)};
  }

  // On the network's thread: 10,000 workers post here.
  Response take_events(const Request& request) {
    const std::string key = checked_stage_key(request);
    const int attempt = checked_number(request.parameters.at("attempt"), "attempt");
    if (!context_.hub.knows(key, attempt)) {
      if (context_.monitor.view()->find(key).empty()) throw Problem(404, "no experiment has a stage with this key");
      struct stat status {};
      if (stat(context_.workspace.attempt_folder(key, attempt).c_str(), &status) != 0)
        throw Problem(404, "no such attempt");
    }
    std::vector<EventLine> lines;
    std::string_view body = request.body;
    for (std::size_t number = 1; !body.empty(); ++number) {
      const auto end = body.find('\n');
      const auto text = body.substr(0, end);
      body = end == std::string_view::npos ? std::string_view() : body.substr(end + 1);
      if (text.empty()) continue;
      auto line = parse_event_line(text, attempt);
      if (!line)
        throw Problem(400, "line " + std::to_string(number) +
                               ": expected a JSON object with a text \"event\" and a whole number \"seq\"");
      lines.push_back(std::move(*line));
    }
    context_.hub.accept(key, std::move(lines), EventHub::Source::post);
    return {.status = 204};
  }

  // "" where there is none: carries_token() takes no empty one.
  std::string token_of_attempt(const std::map<std::string, std::string>& parameters) const {
    const std::string& attempt = parameters.at("attempt");
    if (!is_number_from_one(attempt) || context_.events_secret.empty()) return "";
    return attempt_token(context_.events_secret, parameters.at("key"), std::stoi(attempt));
  }

  static std::string reason_of(const Request& request) {
    if (request.body.empty()) return "asked for through the HTTP API";
    const Json json = Json::parse(request.body, nullptr, false);
    if (!json.is_object() || (json.contains("reason") && !json["reason"].is_string()))
      throw Problem(400, "body: expected {\"reason\": text} or nothing");
    std::string reason = json.value("reason", std::string("asked for through the HTTP API"));
    if (reason.size() > 500) throw Problem(400, "reason: expected at most 500 bytes");
    std::replace_if(
        reason.begin(), reason.end(), [](unsigned char c) { return c < 0x20; }, ' ');
    return reason;
  }

  // "active": whether a coordinator looks after it, so that somebody will act on the request.
  Response accepted(bool active) const {
    if (context_.actions.wake) context_.actions.wake();
    return http::json_response({{"accepted", true}, {"active", active}}, 202);
  }

  bool is_active(const std::string& key) const {
    const auto view = context_.monitor.view();
    const auto found = view->find(key);
    return std::any_of(found.begin(), found.end(), [](const auto& one) { return one.experiment->active; });
  }

  Response cancel_stage(const Request& request) {
    const std::string key = known_stage(request);
    if (!context_.actions.cancel_stage(key, reason_of(request))) throw Problem(409, "the stage is done already");
    return accepted(is_active(key));
  }

  Response retry_stage(const Request& request) {
    const std::string key = known_stage(request);
    context_.actions.retry_stage(key);
    return accepted(is_active(key));
  }

  Response cancel_experiment(const Request& request) {
    const auto [name, experiment] = find_experiment(request);
    if (!context_.actions.cancel_experiment(name, reason_of(request)))
      throw Problem(409, "the experiment is done already: nothing is left to cancel");
    return accepted(experiment->active);
  }

  Response retry_experiment(const Request& request) {
    const auto [name, experiment] = find_experiment(request);
    context_.actions.retry_experiment(name);
    return accepted(experiment->active);
  }

  const ApiContext& context_;
};

}  // namespace

http::Router make_router(const ApiContext& context) {
  http::Router router;
  const auto api = std::make_shared<Api>(context);
  api->add_routes(router, api);
  return router;
}

}  // namespace filo::service
