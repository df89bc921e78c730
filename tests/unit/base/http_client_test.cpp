#include "base/http_client.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/support/loopback_server.hpp"

namespace filo {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr double timeout_s = 0.5;

std::optional<HttpAnswer> ask(const std::string& answer, int times = 1) {
  LoopbackServer server(answer);
  server.close_after_each = answer.find("Length") == std::string::npos && answer.find("chunked") == std::string::npos;
  HttpClient client;
  EXPECT_TRUE(client.open({server.url(), "", ""}, timeout_s)) << client.problem();
  std::optional<HttpAnswer> got;
  while (times-- > 0) got = client.exchange({.path = "/"}, timeout_s);
  return got;
}

// Guards each way in which HTTP/1.1 tells where a body ends.
TEST(HttpClient, BodiesEndByLengthByChunksOrWithTheConnection) {
  EXPECT_EQ(ask("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")->body, "hello");
  const std::string chunks =
      "HTTP/1.1 404 No\r\nTransfer-Encoding: chunked\r\n\r\n3;x=1\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n";
  EXPECT_EQ(ask(chunks)->body, "hello");
  EXPECT_EQ(ask(chunks)->status, 404);
  EXPECT_EQ(ask(chunks, 3)->body, "hello") << "the next answer begins after the last chunk";
  EXPECT_EQ(ask("HTTP/1.1 200 OK\r\n\r\nhello")->body, "hello");
  EXPECT_EQ(ask("HTTP/1.1 204 No Content\r\n\r\n", 1)->body, "");
}

TEST(HttpClient, WhatIsNoAnswerIsNone) {
  for (const char* answer :
       {"nonsense\r\n\r\n", "HTTP/1.1 2x0 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"})
    EXPECT_FALSE(ask(answer)) << answer;
}

// Guards memory and time: what is too long is not waited for.
TEST(HttpClient, ABodyThatIsTooLongIsCut) {
  for (const char* head : {"Content-Length: 9000000", "Content: without Length"}) {
    const std::string body(9'000'000, 'x');  // NOLINT(bugprone-string-constructor): so large it is
    const auto answer = ask("HTTP/1.1 200 OK\r\n" + std::string(head) + "\r\n\r\n" + body);
    ASSERT_TRUE(answer);
    EXPECT_LT(answer->body.size(), HttpClient::most_body_bytes + 4096);
  }
}

TEST(HttpClient, RequestsCarryTheirHeaders) {
  LoopbackServer server;
  HttpClient client;
  ASSERT_TRUE(client.open({server.url(), "", ""}, timeout_s));
  ASSERT_TRUE(
      client.exchange({.method = "POST", .path = "/a?b=c", .body = "{}", .authorization = "Basic x"}, timeout_s));
  ASSERT_TRUE(client.exchange({.path = "/d"}, timeout_s));
  const auto requests = server.requests();
  EXPECT_THAT(requests[0].head, StartsWith("POST /a?b=c HTTP/1.1\r\nHost: 127.0.0.1:"));
  EXPECT_THAT(requests[0].head,
              HasSubstr("Content-Type: application/json\r\nContent-Length: 2\r\nAuthorization: Basic x"));
  EXPECT_EQ(requests[0].body, "{}");
  EXPECT_THAT(requests[1].head, ::testing::Not(HasSubstr("Content")));
  EXPECT_EQ(server.connections(), 1);
}

// What users read when their server is away.
TEST(HttpClient, SaysWhyThereIsNoConnection) {
  HttpClient client;
  EXPECT_FALSE(client.open({"http://127.0.0.1:1", "", ""}, timeout_s));
  EXPECT_EQ(client.problem(), "Connection refused");
  EXPECT_FALSE(client.open({"http://no-such-host.invalid", "", ""}, timeout_s));
  EXPECT_NE(client.problem(), "");
  EXPECT_FALSE(client.open({"ftp://127.0.0.1", "", ""}, timeout_s));
  EXPECT_THAT(client.problem(), HasSubstr("expected http://"));
  LoopbackServer plain;
  EXPECT_FALSE(client.open({"https://127.0.0.1:" + std::to_string(plain.port()), "", ""}, timeout_s));
  EXPECT_THAT(client.problem(), HasSubstr("TLS"));
}

}  // namespace
}  // namespace filo
