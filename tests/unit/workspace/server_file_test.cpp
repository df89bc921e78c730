#include "workspace/server_file.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "tests/unit/support/scratch.hpp"

namespace filo {
namespace {

constexpr const char* key = "0123456789abcdef";

// Guards: what the server writes is what a worker finds, nobody else reads the secret, and it goes with the server.
TEST(ServerFile, TellsWorkersWhereTheServerIs) {
  const Scratch scratch;
  const Workspace workspace = scratch.workspace();
  {
    const ServerFile file(workspace, {.url = "https://h:8321", .events_secret = "abc", .certificate = "PEM"});
    const auto target = find_server(workspace, workspace.server_file(), key, 2);
    ASSERT_TRUE(target);
    EXPECT_EQ(target->url, "https://h:8321");
    EXPECT_EQ(target->token, attempt_token("abc", key, 2));
    EXPECT_EQ(target->certificate, "PEM");
    struct stat status {};
    ASSERT_EQ(stat(workspace.server_file().c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0600u);
  }
  EXPECT_FALSE(std::filesystem::exists(workspace.server_file()));
  {
    const ServerFile file(workspace, {.url = "http://h:1", .events_secret = "abc", .certificate = ""});
    write_file_atomically(workspace.server_file(), "another server's");
  }
  EXPECT_TRUE(std::filesystem::exists(workspace.server_file()));
}

// Guards the API: from what a worker has, or posts, nobody learns the API's token or another attempt's.
TEST(ServerFile, TokensAreOfOneAttempt) {
  const std::string secret = events_secret("the token of the API");
  EXPECT_EQ(secret, "dca196a78bd064be3d4bcf721a8270a2413a1d1ebe0d20359ab0d46975bb0c5a") << "as Python's hmac has it";
  EXPECT_NE(attempt_token(secret, key, 1), attempt_token(secret, key, 2));
  EXPECT_NE(attempt_token(secret, key, 1), attempt_token(secret, "0123456789abcdee", 1));
  EXPECT_EQ(attempt_token(secret, key, 1).find(secret), std::string::npos);
}

// Guards the token from whoever listens where a server was, or is on another machine.
TEST(ServerFile, AStaleOrForeignServerIsNone) {
  const Scratch scratch;
  const Workspace workspace = scratch.workspace();
  const auto path = workspace.server_file();
  const auto url_found = [&](const Json& changes, const std::string& url) -> std::string {
    Json json = process_claim();
    json["url"] = url;
    json["events_secret"] = "abc";
    json.update(changes);
    write_json(path, json);
    const auto target = find_server(workspace, path, key, 1);
    return target ? target->url : "none";
  };
  EXPECT_EQ(url_found(Json::object(), "http://127.0.0.1:8321"), "http://127.0.0.1:8321");
  EXPECT_EQ(url_found({{"process_started", "1"}}, "http://127.0.0.1:8321"), "none") << "killed -9";
  EXPECT_EQ(url_found({{"boot", "another"}}, "http://h:8321"), "none");
  EXPECT_EQ(url_found({{"host", "another"}}, "http://h:8321"), "http://h:8321");
  for (const char* loopback : {"http://127.0.0.1:8321", "https://localhost:1", "http://[::1]:8321"})
    EXPECT_EQ(url_found({{"host", "another"}}, loopback), "none");
  url_found({{"host", "another"}}, "http://h:8321");
  std::filesystem::last_write_time(path, std::filesystem::file_time_type::clock::now() - std::chrono::seconds(100));
  EXPECT_FALSE(find_server(workspace, path, key, 1)) << "not touched for long";
}

TEST(ServerFile, WhatCannotBeUsedIsNoServer) {
  const Scratch scratch;
  const Workspace workspace = scratch.workspace();
  const auto path = workspace.server_file();
  EXPECT_FALSE(find_server(workspace, path, key, 1));
  Json good = process_claim();
  good.update({{"url", "http://127.0.0.1:8321"}, {"events_secret", "abc"}});
  for (const Json& change :
       {Json{{"events_secret", 3}}, Json{{"url", "ftp://h"}}, Json{{"url", 3}}, Json{{"url", "http://h\r\nX: y"}}}) {
    Json bad = good;
    bad.update(change);
    write_json(path, bad);
    EXPECT_FALSE(find_server(workspace, path, key, 1)) << bad;
  }
  write_json(path, Json::array());
  EXPECT_FALSE(find_server(workspace, path, key, 1));
}

}  // namespace
}  // namespace filo
