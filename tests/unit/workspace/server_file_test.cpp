#include "workspace/server_file.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "tests/unit/support/scratch.hpp"

namespace filo {
namespace {

// Guards: what the server writes is what a worker finds, nobody else reads the token, and it goes with the server.
TEST(ServerFile, TellsWorkersWhereTheServerIs) {
  const Scratch scratch;
  const Workspace workspace = scratch.workspace();
  {
    const ServerFile file(workspace, {.url = "https://h:8321", .token = "abc", .certificate = "PEM"});
    const auto target = read_server_file(workspace.server_file());
    ASSERT_TRUE(target);
    EXPECT_EQ(target->url, "https://h:8321");
    EXPECT_EQ(target->token, "abc");
    EXPECT_EQ(target->certificate, "PEM");
    struct stat status {};
    ASSERT_EQ(stat(workspace.server_file().c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0600u);
  }
  EXPECT_FALSE(std::filesystem::exists(workspace.server_file()));
  {
    const ServerFile file(workspace, {.url = "http://h:1", .token = "abc", .certificate = ""});
    write_file_atomically(workspace.server_file(), "another server's");
  }
  EXPECT_TRUE(std::filesystem::exists(workspace.server_file()));
}

TEST(ServerFile, WhatCannotBeUsedIsNoServer) {
  const Scratch scratch;
  const auto path = scratch.workspace().server_file();
  EXPECT_FALSE(read_server_file(path));
  write_json(path, {{"url", "http://127.0.0.1:8321"}, {"token", "abc"}});
  EXPECT_EQ(read_server_file(path)->token, "abc");
  for (const Json& bad : {Json::array(), Json{{"url", "http://h:1"}}, Json{{"url", "ftp://h"}, {"token", "t"}},
                          Json{{"url", 3}, {"token", "t"}}, Json{{"url", "http://h\r\nX: y"}, {"token", "t"}},
                          Json{{"url", "http://h"}, {"token", "t\r\nX: y"}}}) {
    write_json(path, bad);
    EXPECT_FALSE(read_server_file(path)) << bad;
  }
}

}  // namespace
}  // namespace filo
