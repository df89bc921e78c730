#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <set>

#include "scheduler/plan/plan_file.hpp"
#include "service/api.hpp"
#include "service/api_json.hpp"
#include "service/assets.hpp"
#include "service/stage_files.hpp"
#include "tests/unit/support/scratch.hpp"
#include "workspace/server_file.hpp"

namespace filo::service {
namespace {

using http::Problem;
using http::Request;
using http::Response;
using ::testing::HasSubstr;

std::string body_of(const Response& response) {
  if (const auto* file = std::get_if<http::FilePart>(&response.body)) {
    std::string bytes(file->length, '\0');
    EXPECT_EQ(pread(file->file.get(), bytes.data(), bytes.size(), static_cast<off_t>(file->offset)),
              static_cast<ssize_t>(bytes.size()));
    return bytes;
  }
  return std::get<std::string>(response.body);
}

// The API over an experiment with two folds and two seeds; the first trial has a result.
class HttpApi : public ::testing::Test {
 protected:
  void SetUp() override {
    scratch.add_all();
    workspace = std::make_unique<Workspace>(scratch.workspace());
    plan = make_plan(scratch.experiment("seeds: [0, 1]\n"), *workspace);
    save_plan(plan, *workspace);
    shared = std::make_shared<const Plan>(plan);
    for (const auto& stage : plan.stages) {
      StageStatus status;
      status.key = stage.key;
      statuses.push_back(status);
    }
    evaluate = plan.trials[0].evaluate;
    train = plan.trials[0].train;
    write("attempts/1/log.txt", "one\ntwo\nthree\n");
    write("attempts/1/events.jsonl", R"({"seq":0,"event":"started"})"
                                     "\n"
                                     R"({"seq":1,"event":"finished"})"
                                     "\n");
    write("heat_maps/bolt/1.png", "picture");
    write("secret.txt", "secret");
    write_result(*workspace, evaluate, StageKind::evaluate, 1,
                 {{"image_auroc", 0.75}, {"pixel_auroc", 0.5}, {"classes", {{"bolt", {{"image_auroc", 0.75}}}}}},
                 {{"heat_maps", "heat_maps"}, {"interpretations", "interpretations.json"}});
    set(evaluate, StageState::done, 1);
    set(train, StageState::done, 1);
    context = std::make_unique<ApiContext>(ApiContext{*workspace, hub, monitor(), requests, passes, {}, "1.2.3"});
    context->events_secret = "secret of the events";
    context->actions.cancel_stage = [&](const std::string& key, const std::string& reason) {
      asked = "cancel " + key + " " + reason;
      return key != evaluate;
    };
    context->actions.retry_stage = [&](const std::string& key) { asked = "retry " + key; };
    context->actions.cancel_experiment = [&](const std::string& name, const std::string& reason) {
      asked = "cancel " + name + " " + reason;
      return !experiment_is_done;
    };
    context->actions.retry_experiment = [&](const std::string& name) { asked = "retry " + name; };
    router = make_router(*context);
    publish();
  }

  Monitor& monitor() {
    if (!monitor_) monitor_ = std::make_unique<Monitor>(*workspace, hub);
    return *monitor_;
  }
  void publish() {
    monitor().publish({[&](const std::string&) { return shared; },
                       [&](const std::string&) {
                         return Monitor::Statuses{statuses, true};
                       }},
                      "");
  }
  void set(const std::string& key, StageState state, int attempt = 0) {
    for (auto& status : statuses)
      if (status.key == key) {
        status.state = state;
        status.attempt = attempt;
      }
  }
  void write(const std::string& name, const std::string& text) const {
    scratch.write("workspace/stages/" + evaluate + "/" + name, text);
  }

  Response ask(const std::string& method, const std::string& path, const std::string& body = "",
               std::map<std::string, std::string> headers = {}) {
    const auto target = http::parse_target(path);
    if (!target) return http::problem_response(400, "target");
    const auto match = router.match(method, target->segments);
    if (match.route == nullptr) return http::problem_response(404, "route");
    Request request{.method = method,
                    .target = *target,
                    .headers = std::move(headers),
                    .body = body,
                    .parameters = match.parameters};
    try {
      return match.route->handler(request);
    } catch (const Problem& problem) {
      return http::problem_response(problem.status(), problem.what());
    }
  }
  Json get(const std::string& path) {
    const Response response = ask("GET", path);
    EXPECT_EQ(response.status, 200) << path << " " << body_of(response);
    return Json::parse(body_of(response));
  }
  int status_of(const std::string& path) { return ask("GET", path).status; }

  Scratch scratch;
  std::unique_ptr<Workspace> workspace;
  Plan plan;
  std::shared_ptr<const Plan> shared;
  std::vector<StageStatus> statuses;
  std::string evaluate, train, asked;
  bool experiment_is_done = false;
  EventHub hub;
  http::ServerCounters requests;
  PassCounters passes;
  std::unique_ptr<Monitor> monitor_;
  std::unique_ptr<ApiContext> context;
  http::Router router;
};

TEST_F(HttpApi, ExperimentsTellTheirProgress) {
  const Json all = get("/api/v1/experiments");
  ASSERT_EQ(all["experiments"].size(), 1u);
  EXPECT_EQ(all["version"], "1.2.3");
  const Json one = all["experiments"][0];
  EXPECT_EQ(one["name"], "test");
  EXPECT_EQ(one["trials"]["total"], plan.trials.size());
  EXPECT_EQ(one["trials"]["done"], 1);
  EXPECT_EQ(get("/api/v1/experiments/test")["kinds"]["evaluate"]["done"], 1);
  EXPECT_EQ(status_of("/api/v1/experiments/absent"), 404);
}

TEST_F(HttpApi, TablesFillAsResultsArrive) {
  const Json before = get("/api/v1/experiments/test/tables");
  EXPECT_NE(before["tables"].dump().find("75.0"), std::string::npos) << before;
  const std::string other = plan.trials[1].evaluate;
  std::filesystem::create_directories(workspace->attempt_folder(other, 1));
  write_result(*workspace, other, StageKind::evaluate, 1, {{"image_auroc", 0.25}, {"pixel_auroc", 0.5}});
  set(other, StageState::done, 1);
  publish();
  EXPECT_EQ(get("/api/v1/experiments/test/trials/1")["metrics"]["image_auroc"], 0.25);
}

// Guards the page after an update of the program: its files are asked for again, and sent when they differ.
TEST_F(HttpApi, ThePagesFilesAreSentAgainOnlyWhenTheyDiffer) {
  for (const char* path : {"/", "/app.js", "/js/pages/stage.js", "/chart.js"}) {
    const Response first = ask("GET", path);
    ASSERT_EQ(first.status, 200) << path;
    const auto tag = std::find_if(first.headers.begin(), first.headers.end(),
                                  [](const auto& header) { return header.first == "ETag"; });
    ASSERT_NE(tag, first.headers.end()) << path;
    EXPECT_EQ(ask("GET", path, "", {{"if-none-match", tag->second}}).status, 304) << path;
    EXPECT_EQ(ask("GET", path, "", {{"if-none-match", "\"other\""}}).status, 200) << path;
  }
  EXPECT_EQ(ask("GET", "/js/absent.js").status, 404);
}

// Guards against sending 10,000 cells again to everyone who looks.
TEST_F(HttpApi, AnUnchangedGridIsNotSentAgain) {
  const Response first = ask("GET", "/api/v1/experiments/test/grid");
  std::string tag;
  for (const auto& [name, value] : first.headers)
    if (name == "ETag") tag = value;
  EXPECT_EQ(ask("GET", "/api/v1/experiments/test/grid", "", {{"if-none-match", tag}}).status, 304);
  set(plan.trials[1].train, StageState::running, 1);
  publish();
  const Response changed = ask("GET", "/api/v1/experiments/test/grid", "", {{"if-none-match", tag}});
  ASSERT_EQ(changed.status, 200);
  const Json grid = Json::parse(body_of(changed));
  ASSERT_EQ(grid["cells"].size(), plan.trials.size());
  EXPECT_EQ(grid["states"][grid["cells"][0].get<std::size_t>()], "done");
  EXPECT_EQ(grid["states"][grid["cells"][1].get<std::size_t>()], "running") << "a trial whose training runs";
}

TEST_F(HttpApi, TrialsAndStagesAreFilteredAndPaged) {
  EXPECT_EQ(get("/api/v1/experiments/test/trials?state=done")["total"], 1);
  const Json page = get("/api/v1/experiments/test/trials?offset=1&limit=2");
  EXPECT_EQ(page["total"], plan.trials.size());
  EXPECT_EQ(page["trials"].size(), 2u);
  EXPECT_EQ(page["trials"][0]["trial"], 1);
  EXPECT_EQ(get("/api/v1/stages?kind=evaluate&state=done")["stages"][0]["stage"], evaluate);
  EXPECT_EQ(get("/api/v1/stages")["total"], plan.stages.size());
  for (const char* bad : {"?limit=0", "?limit=10001", "?limit=x", "?offset=-1"}) {
    EXPECT_EQ(status_of(std::string("/api/v1/stages") + bad), 400) << bad;
    EXPECT_EQ(status_of(std::string("/api/v1/experiments/test/trials") + bad), 400) << bad;
  }
  EXPECT_EQ(status_of("/api/v1/experiments/test/trials/" + std::to_string(plan.trials.size())), 404);
}

TEST_F(HttpApi, AStageTellsAllThatIsKnownOfIt) {
  const Json stage = get("/api/v1/stages/" + evaluate);
  EXPECT_EQ(stage["state"], "done");
  EXPECT_EQ(stage["result"]["metrics"]["classes"]["bolt"]["image_auroc"], 0.75);
  EXPECT_EQ(stage["experiments"], Json({"test"}));
  EXPECT_EQ(stage["inputs"].size(), 2u);
  EXPECT_GT(stage["limits"]["failures"], 0);
  EXPECT_EQ(get("/api/v1/stages/" + evaluate + "/attempts")["attempts"].size(), 1u);
}

TEST_F(HttpApi, LogsComeWholeByTailByPieceAndByRange) {
  const std::string path = "/api/v1/stages/" + evaluate + "/attempts/1/log";
  EXPECT_EQ(body_of(ask("GET", path)), "one\ntwo\nthree\n");
  EXPECT_EQ(body_of(ask("GET", path + "?tail=1")), "three\n");
  EXPECT_EQ(body_of(ask("GET", path + "?tail=2")), "two\nthree\n");
  EXPECT_EQ(body_of(ask("GET", path + "?tail=99")), "one\ntwo\nthree\n");
  EXPECT_EQ(body_of(ask("GET", path + "?offset=4&limit=3")), "two");
  EXPECT_EQ(body_of(ask("GET", path + "?offset=999")), "");
  const Response range = ask("GET", path, "", {{"range", "bytes=-6"}});
  EXPECT_EQ(range.status, 206);
  EXPECT_EQ(body_of(range), "three\n");
  EXPECT_EQ(ask("GET", path, "", {{"range", "bytes=500-"}}).status, 416);
  EXPECT_EQ(ask("GET", "/api/v1/stages/" + evaluate + "/attempts/newest/log").status, 200);
  for (const char* bad : {"0", "2", "x", "-1", "01", "99999999999"})
    EXPECT_EQ(status_of("/api/v1/stages/" + evaluate + "/attempts/" + bad + "/log"), 404) << bad;
}

// An attempt that has not written anything yet, and a log that somebody replaced by a link.
TEST_F(HttpApi, ALogThatIsNotThereIsEmptyAndALinkIsNotFollowed) {
  const std::string path = "/api/v1/stages/" + evaluate + "/attempts/1/log";
  const auto file = workspace->log_file(evaluate, 1);
  std::filesystem::remove(file);
  for (const char* how : {"", "?tail=5", "?offset=3"}) {
    EXPECT_EQ(status_of(path + how), 200) << how;
    EXPECT_EQ(body_of(ask("GET", path + how)), "") << how;
  }
  std::filesystem::create_symlink(workspace->stage_folder(evaluate) / "secret.txt", file);
  EXPECT_EQ(body_of(ask("GET", path)), "");
}

TEST_F(HttpApi, ArtifactsAreThoseThatTheResultLists) {
  const std::string path = "/api/v1/stages/" + evaluate + "/artifacts";
  const Json listed = get(path);
  ASSERT_EQ(listed["artifacts"].size(), 1u);
  EXPECT_EQ(listed["artifacts"][0]["path"], "heat_maps/bolt/1.png");
  const Response picture = ask("GET", path + "/heat_maps/bolt/1.png");
  EXPECT_EQ(picture.content_type, "image/png");
  EXPECT_EQ(body_of(picture), "picture");
  EXPECT_EQ(body_of(ask("GET", path + "/heat_maps/bolt/1.png", "", {{"range", "bytes=0-2"}})), "pic");
  for (const char* other : {"/secret.txt", "/spec.json", "/result.json", "/attempts/1/log.txt", "/heat_maps",
                            "/heat_maps/bolt", "/heat_maps/absent.png", "/heat_mapsx/1.png", "/interpretations.json"})
    EXPECT_EQ(status_of(path + other), 404) << other;
}

// Guards the rest of the file system: by dots, encoded or not, by links, by special files, by what result.json claims.
TEST_F(HttpApi, NothingOutsideAStagesFolderIsServed) {
  const std::string path = "/api/v1/stages/" + evaluate + "/artifacts/";
  scratch.write("outside.txt", "outside");
  const auto folder = workspace->stage_folder(evaluate);
  for (const char* walk : {"heat_maps/../secret.txt", "heat_maps/..%2fsecret.txt", "heat_maps/%2e%2e/secret.txt",
                           "..%2f..%2f..%2foutside.txt", "heat_maps/%00", "heat_maps/.%2e/secret.txt",
                           "%2fetc%2fpasswd", "heat_maps//../secret.txt", "heat_maps\\..\\secret.txt"})
    EXPECT_NE(status_of(path + walk), 200) << walk;
  std::filesystem::create_symlink(scratch.folder / "outside.txt", folder / "heat_maps/link.png");
  std::filesystem::create_directory_symlink(scratch.folder, folder / "heat_maps/linked");
  ASSERT_EQ(mkfifo((folder / "heat_maps/pipe.png").c_str(), 0600), 0);
  for (const char* name : {"heat_maps/link.png", "heat_maps/linked/outside.txt", "heat_maps/pipe.png"})
    EXPECT_EQ(status_of(path + name), 404) << name;
  EXPECT_EQ(get("/api/v1/stages/" + evaluate + "/artifacts")["artifacts"].size(), 1u);

  write_result(*workspace, evaluate, StageKind::evaluate, 1, Json::object(),
               {{"a", "."},
                {"b", "../../../outside.txt"},
                {"c", "/etc"},
                {"d", "heat_maps/../../../.."},
                {"e", ""},
                {"f", "./"}});
  for (const char* name : {"secret.txt", "heat_maps/bolt/1.png", "outside.txt"})
    EXPECT_EQ(status_of(path + name), 404) << name;
  EXPECT_EQ(get("/api/v1/stages/" + evaluate + "/artifacts")["artifacts"].size(), 0u);
}

TEST_F(HttpApi, UnknownAndMalformedStagesAreNotFound) {
  std::filesystem::create_directories(workspace->stage_folder("ffffffffffffffff") /
                                      "attempts/1");  // a folder, but of no plan
  for (const char* key :
       {"ffffffffffffffff", "0123", "..", "0123456789ABCDEF", "0123456789abcdeg", "0123456789abcdef0"})
    for (const char* rest :
         {"", "/attempts", "/attempts/1/log", "/attempts/1/events", "/events", "/curves", "/artifacts"})
      EXPECT_NE(status_of(std::string("/api/v1/stages/") + key + rest), 200) << key << rest;
}

TEST_F(HttpApi, WorkersPostEventsOfKnownAttempts) {
  const std::string path = "/api/v1/stages/" + evaluate + "/attempts/1/events";
  const std::string two = R"({"seq":0,"event":"started"})"
                          "\n"
                          R"({"seq":1,"event":"progress","done":1,"total":2,"unit":"images"})"
                          "\n";
  EXPECT_EQ(ask("POST", path, two).status, 204);
  EXPECT_EQ(hub.latest(evaluate)->text, "1/2 images");
  EXPECT_EQ(ask("POST", path, two).status, 204);
  EXPECT_EQ(hub.counters().duplicates, 2u);
  const Response bad = ask("POST", path,
                           R"({"seq":2,"event":"step"})"
                           "\nnonsense\n");
  EXPECT_EQ(bad.status, 400);
  EXPECT_THAT(body_of(bad), HasSubstr("line 2"));
  EXPECT_EQ(hub.counters().posted, 2u) << "all of it or nothing";
  EXPECT_EQ(ask("POST", "/api/v1/stages/" + evaluate + "/attempts/7/events", two).status, 404);
  EXPECT_EQ(ask("POST", "/api/v1/stages/ffffffffffffffff/attempts/1/events", two).status, 404);
}

TEST_F(HttpApi, EventsArePagedBySequenceNumber) {
  const std::string path = "/api/v1/stages/" + evaluate + "/attempts/1/events";
  EXPECT_EQ(get(path)["events"].size(), 2u);
  const Json first = get(path + "?limit=1");
  EXPECT_EQ(first["more"], true);
  const Json second = get(path + "?limit=1&after=0");
  EXPECT_EQ(second["more"], false);
  EXPECT_EQ(second["events"][0]["seq"], 1);
}

// A requeued training repeats the steps after its snapshot: the newer ones count.
TEST_F(HttpApi, CurvesOfLaterAttemptsReplaceWhatTheyRepeat) {
  const auto step = [](int sequence, int number, double loss) {
    return Json{{"seq", sequence}, {"event", "step"}, {"phase", "main"},
                {"step", number},  {"loss", loss},    {"losses", {{"dice", loss / 2}}}}
               .dump() +
           "\n";
  };
  write("attempts/1/events.jsonl", step(0, 1, 4) + step(1, 2, 3) + step(2, 3, 2.5));
  write("attempts/2/events.jsonl", step(0, 3, 2) + step(1, 4, 1));
  const Json curves = get("/api/v1/stages/" + evaluate + "/curves");
  EXPECT_EQ(curves["last_event_id"], "2-1");
  ASSERT_EQ(curves["series"].size(), 2u);
  EXPECT_EQ(curves["series"][0]["name"], "loss");
  EXPECT_EQ(curves["series"][0]["points"], Json::parse("[[1,4.0],[2,3.0],[3,2.0],[4,1.0]]"));
  EXPECT_EQ(curves["series"][1]["name"], "losses.dice");
  EXPECT_EQ(get("/api/v1/stages/" + evaluate + "/curves?points=2")["series"][0]["points"].size(), 3u)
      << "every second one, and the last";
}

TEST_F(HttpApi, ActionsBecomeRequests) {
  EXPECT_EQ(ask("POST", "/api/v1/stages/" + train + "/cancel", R"({"reason": "too slow\nreally"})").status, 202);
  EXPECT_EQ(asked, "cancel " + train + " too slow really");
  EXPECT_EQ(ask("POST", "/api/v1/stages/" + evaluate + "/cancel").status, 409) << "done already";
  EXPECT_EQ(ask("POST", "/api/v1/stages/" + train + "/retry").status, 202);
  EXPECT_EQ(asked, "retry " + train);
  EXPECT_EQ(ask("POST", "/api/v1/experiments/test/cancel").status, 202);
  EXPECT_THAT(asked, HasSubstr("cancel test "));
  experiment_is_done = true;
  EXPECT_EQ(ask("POST", "/api/v1/experiments/test/cancel").status, 409);
  EXPECT_EQ(ask("POST", "/api/v1/experiments/test/retry").status, 202);
  EXPECT_EQ(asked, "retry test");
  asked.clear();
  for (const char* bad : {"[]", "x", R"({"reason": 3})"})
    EXPECT_EQ(ask("POST", "/api/v1/stages/" + train + "/cancel", bad).status, 400) << bad;
  EXPECT_EQ(ask("POST", "/api/v1/stages/" + train + "/cancel", Json{{"reason", std::string(501, 'x')}}.dump()).status,
            400);
  EXPECT_EQ(ask("POST", "/api/v1/stages/ffffffffffffffff/retry").status, 404);
  EXPECT_EQ(ask("POST", "/api/v1/experiments/absent/cancel").status, 404);
  EXPECT_EQ(asked, "");
}

TEST_F(HttpApi, MetricsAreInPrometheusFormat) {
  const std::string text = body_of(ask("GET", "/metrics"));
  EXPECT_THAT(text, HasSubstr("# TYPE filo_stages gauge\n"));
  EXPECT_THAT(text, HasSubstr("filo_trials{experiment=\"test\",state=\"done\"} 1"));
  std::set<std::string> families;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("# TYPE ")) {
      EXPECT_TRUE(families.insert(line.substr(7, line.find(' ', 7) - 7)).second) << line;
      continue;
    }
    if (line.starts_with('#')) continue;
    EXPECT_TRUE(families.contains(line.substr(0, line.find_first_of("{ ")))) << line;
    EXPECT_NO_THROW(std::stod(line.substr(line.rfind(' ') + 1))) << line;
  }
}

// Guards the description: every route is in it, and nothing else.
TEST_F(HttpApi, OpenapiNamesEveryRouteAndNoOther) {
  const Json document = Json::parse(find_asset("/openapi.json")->bytes);
  std::set<std::string> described, routed;
  for (const auto& [path, operations] : document.at("paths").items())
    for (const auto& [method, operation] : operations.items()) {
      described.insert(method + " " + path);
      EXPECT_TRUE(operation.contains("summary") && operation.contains("operationId")) << path;
      for (std::size_t at = path.find('{'); at != std::string::npos; at = path.find('{', at + 1)) {
        const std::string name = path.substr(at + 1, path.find('}', at) - at - 1);
        bool found = false;
        for (const auto& parameter : operation.value("parameters", Json::array()))
          found = found || parameter.value("name", "") == name ||
                  parameter.value("$ref", "") == "#/components/parameters/" + name;
        EXPECT_TRUE(found) << path << " does not describe " << name;
      }
    }
  for (const auto& route : router.routes()) {
    std::string pattern = route.pattern;
    if (const auto star = pattern.find("*}"); star != std::string::npos) pattern.erase(star, 1);
    const std::string method = route.method == "GET" ? "get" : "post";
    routed.insert(method + " " + pattern);
    const bool open = document["paths"].contains(pattern) && document["paths"][pattern][method].contains("security");
    EXPECT_EQ(open, !route.needs_token) << pattern;
  }
  EXPECT_EQ(described, routed);
}

// Guards the rule: the token is asked for everywhere but on the page's own files and the health check.
TEST_F(HttpApi, OnlyThePageAndTheHealthCheckAreOpen) {
  std::set<std::string> open;
  for (const auto& route : router.routes())
    if (!route.needs_token) open.insert(route.pattern);
  EXPECT_EQ(open,
            (std::set<std::string>{"/", "/app.js", "/js/{path*}", "/style.css", "/chart.js", "/icon.svg", "/healthz"}));
}

// Guards what workers may: post the events of their own attempt, and nothing more.
TEST_F(HttpApi, AnAttemptsTokenIsForItsEventsAlone) {
  for (const auto& route : router.routes())
    EXPECT_EQ(route.own_token != nullptr,
              route.pattern == "/api/v1/stages/{key}/attempts/{attempt}/events" && route.method == "POST")
        << route.pattern;
  const auto match = router.match("POST", {"api", "v1", "stages", train, "attempts", "1", "events"});
  ASSERT_NE(match.route, nullptr);
  EXPECT_EQ(match.route->own_token(match.parameters), attempt_token("secret of the events", train, 1));
  for (const char* attempt : {"newest", "0", "-1", "01", "9999999999", ""})
    EXPECT_EQ(match.route->own_token({{"key", train}, {"attempt", attempt}}), "") << attempt;
}

}  // namespace
}  // namespace filo::service
