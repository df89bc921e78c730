#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <thread>

#include "base/error.hpp"
#include "service/http/server.hpp"
#include "tests/unit/support/scratch.hpp"

namespace filo::http {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

const std::string token = "0123456789abcdef";
const std::string authorized = "Authorization: Bearer " + token + "\r\n";

// Two events, and no more.
class TwoEvents : public EventSource {
 public:
  void on_wake(std::function<void()>) override {}
  std::string next() override { return count_ == 2 ? "" : "data: " + std::to_string(++count_) + "\n\n"; }
  std::chrono::milliseconds poll_interval() const override { return std::chrono::milliseconds(10); }

 private:
  int count_ = 0;
};

// A server that has nothing to do with experiments.
class HttpServerOnLoopback : public ::testing::Test {
 protected:
  void SetUp() override {
    scratch.write("file.txt", "0123456789");
    add("GET", "/hello", [](const Request& request) {
      return Response{.content_type = "text/plain", .body = "hello " + request.query("name")};
    });
    add("POST", "/echo", [](const Request& request) { return Response{.body = request.body}; });
    add("GET", "/file", [this](const Request&) {
      return Response{.body = FilePart{open_file(scratch.folder / "file.txt", O_RDONLY), 2, 5}};
    });
    add("GET", "/wrong", [](const Request&) -> Response { throw std::runtime_error("a secret of the server"); });
    add("GET", "/gone", [](const Request&) -> Response { throw Problem(404, "it is gone"); });
    add("GET", "/stream", [](const Request&) {
      return Response{.content_type = "text/event-stream", .body = std::make_shared<TwoEvents>()};
    });
    router.add({.method = "GET",
                .pattern = "/open",
                .handler = [](const Request&) { return Response{.body = std::string("open")}; },
                .needs_token = false,
                .quick = true});
    router.add({.method = "POST",
                .pattern = "/own/{name}",
                .handler = [](const Request&) { return Response{.body = std::string("taken")}; },
                .own_token =
                    [](const auto& parameters) {
                      return parameters.at("name") == "none" ? "" : "of " + parameters.at("name");
                    }});
    ServerOptions options;
    options.token = token;
    server = std::make_unique<Server>(options, router, counters);
    thread = std::thread([this] { server->run(); });
  }
  void TearDown() override {
    server->stop();
    thread.join();
  }
  void add(const std::string& method, const std::string& pattern, Handler handler) {
    router.add({.method = method, .pattern = pattern, .handler = std::move(handler), .most_body_bytes = 100});
  }

  // All that comes back for these bytes until `until` is in it, or the server closes, or five seconds are over.
  std::string raw(const std::string& bytes, const std::string& until = "\r\n\r\n\r\n") const {
    const FileDescriptor connection(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(server->port());
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    timeval most{5, 0};
    setsockopt(connection.get(), SOL_SOCKET, SO_RCVTIMEO, &most, sizeof most);
    if (connect(connection.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) return "not connected";
    if (send(connection.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(bytes.size()))
      return "not sent";
    std::string answer;
    char buffer[4096];
    for (ssize_t got;
         answer.find(until) == std::string::npos && (got = recv(connection.get(), buffer, sizeof buffer, 0)) > 0;)
      answer.append(buffer, static_cast<std::size_t>(got));
    return answer;
  }
  std::string ask(const std::string& line, const std::string& headers = authorized,
                  const std::string& body = "") const {
    return raw(line + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + headers + "\r\n" + body);
  }

  Scratch scratch;
  Router router;
  ServerCounters counters;
  std::unique_ptr<Server> server;
  std::thread thread;
};

TEST_F(HttpServerOnLoopback, AnswersWithWhatTheHandlerSays) {
  const std::string answer = ask("GET /hello?name=you");
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(answer, HasSubstr("Content-Length: 9\r\n"));
  EXPECT_THAT(answer, HasSubstr("\r\n\r\nhello you"));
  EXPECT_THAT(ask("POST /echo", authorized + "Content-Length: 4\r\n", "body"), HasSubstr("\r\n\r\nbody"));
  EXPECT_THAT(ask("GET /file"), HasSubstr("\r\n\r\n23456"));
  EXPECT_EQ(counters.requests, 3u);
}

TEST_F(HttpServerOnLoopback, WithoutTheTokenOnlyOpenRoutesAnswer) {
  EXPECT_THAT(ask("GET /open", ""), HasSubstr("\r\n\r\nopen"));
  for (const char* path : {"/hello", "/absent"}) EXPECT_THAT(ask(std::string("GET ") + path, ""), HasSubstr(" 401 "));
  EXPECT_THAT(ask("GET /hello", "Authorization: Bearer fedcba9876543210\r\n"), HasSubstr("WWW-Authenticate: Bearer"));
  EXPECT_THAT(ask("GET /hello", authorized + authorized), HasSubstr(" 400 "));
  EXPECT_EQ(counters.refused_tokens, 3u);
}

// Guards against smuggling (RFC 9112, 6.3): what follows a body whose end is in doubt is no request.
TEST_F(HttpServerOnLoopback, ARequestWhoseLengthIsInDoubtEndsTheConnection) {
  for (const char* lengths :
       {"Transfer-Encoding: chunked, identity\r\n", "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: xchunked\r\n", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Content-Length: 0\r\nContent-Length: 30\r\n", "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n"}) {
    const std::string answer = raw("POST /echo HTTP/1.1\r\nHost: localhost\r\n" + authorized + lengths +
                                   "\r\nGET /open HTTP/1.1\r\nHost: localhost\r\n\r\n");
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 400 ")) << lengths;
    EXPECT_THAT(answer, Not(HasSubstr("HTTP/1.1 200"))) << lengths;
  }
  EXPECT_THAT(ask("POST /echo", authorized + "Transfer-Encoding: chunked\r\n", "4\r\nbody\r\n0\r\n\r\n"),
              HasSubstr("\r\n\r\nbody"));
}

// Guards everything else from a worker's token.
TEST_F(HttpServerOnLoopback, ARoutesOwnTokenIsGoodForThatRouteAlone) {
  const std::string of_a = "Content-Length: 0\r\nAuthorization: Bearer of a\r\n";
  EXPECT_THAT(ask("POST /own/a", of_a), HasSubstr("taken"));
  EXPECT_THAT(ask("POST /own/a", authorized + "Content-Length: 0\r\n"), HasSubstr("taken"));
  for (const char* other : {"POST /own/b", "POST /own/none", "POST /echo", "GET /hello"})
    EXPECT_THAT(ask(other, of_a), HasSubstr(" 401 ")) << other;
  EXPECT_THAT(ask("POST /own/none", "Content-Length: 0\r\nAuthorization: Bearer \r\n"), HasSubstr(" 401 "));
}

TEST_F(HttpServerOnLoopback, WhatDoesNotFitIsRefusedWithItsReason) {
  EXPECT_THAT(ask("GET /absent"), HasSubstr(" 404 "));
  EXPECT_THAT(ask("DELETE /echo"), HasSubstr("Allow: POST\r\n"));
  EXPECT_THAT(ask("GET /../etc"), HasSubstr(" 400 "));
  EXPECT_THAT(ask("POST /echo", authorized + "Content-Length: 101\r\n"), HasSubstr(" 413 "));
  EXPECT_THAT(raw("nonsense\r\n\r\n"), HasSubstr(" 400 "));
  EXPECT_THAT(raw("GET /open HTTP/1.1\r\nHost: evil.example\r\n\r\n"), HasSubstr(" 421 "));
  EXPECT_EQ(counters.malformed, 1u);
}

// Guards the server's insides: what a handler trips over is for the log, a Problem is for the client.
TEST_F(HttpServerOnLoopback, AHandlersErrorIsNotTold) {
  EXPECT_THAT(ask("GET /wrong"), HasSubstr(" 500 "));
  EXPECT_THAT(ask("GET /wrong"), Not(HasSubstr("secret")));
  EXPECT_THAT(ask("GET /gone"), HasSubstr("it is gone"));
}

TEST_F(HttpServerOnLoopback, ABodyIsAskedForWhenTheClientWaitsForThat) {
  const std::string answer = ask("POST /echo", authorized + "Expect: 100-continue\r\nContent-Length: 4\r\n", "body");
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"));
}

TEST_F(HttpServerOnLoopback, HeadGetsTheHeaderAlone) {
  const std::string answer = ask("HEAD /hello?name=you");
  EXPECT_THAT(answer, HasSubstr("Content-Length: 9\r\n"));
  EXPECT_TRUE(answer.ends_with("\r\n\r\n")) << answer;
}

TEST_F(HttpServerOnLoopback, AStreamSendsEventsAsTheyCome) {
  const std::string answer = raw("GET /stream HTTP/1.1\r\nHost: localhost\r\n" + authorized + "\r\n", "data: 2\n\n");
  EXPECT_THAT(answer, HasSubstr("Content-Type: text/event-stream\r\n"));
  EXPECT_THAT(answer, HasSubstr(":\n\ndata: 1\n\ndata: 2\n\n"));
}

}  // namespace
}  // namespace filo::http
