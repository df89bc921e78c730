#include <gtest/gtest.h>

#include <set>

#include "service/api.hpp"
#include "service/http/message.hpp"
#include "service/http/router.hpp"
#include "service/http/server.hpp"
#include "service/http/token.hpp"
#include "service/serve.hpp"
#include "tests/unit/support/scratch.hpp"

#include <sys/stat.h>

namespace filo::http {
namespace {

// Guards what every handler relies on: decoded once, and nothing that could walk the file system.
TEST(HttpMessage, ATargetIsTakenApartAndDecodedOnce) {
  const auto target = parse_target("/api/v1/a%20b/%252e?x=1%26+2&flag&y=");
  ASSERT_TRUE(target);
  EXPECT_EQ(target->segments, (std::vector<std::string>{"api", "v1", "a b", "%2e"}));
  EXPECT_EQ(target->query.at("x"), "1& 2");
  EXPECT_EQ(target->query.at("flag"), "");
  EXPECT_EQ(target->query.at("y"), "");
  EXPECT_TRUE(parse_target("/")->segments.empty());
}

// Guards the file system against every spelling of "somewhere else".
TEST(HttpMessage, TargetsThatLeadElsewhereAreRefused) {
  for (const char* bad : {"",          "x",     "*",    "http://h/x", "/..",      "/a/../b", "/a/%2e%2e/b", "/a/%2E./b",
                          "/./a",      "/a//b", "//a",  "/a/",        "/a%2fb",   "/a%5cb",  "/a\\b",       "/%00",
                          "/a%0d%0ab", "/a%",   "/a%2", "/a%zz",      "/a?x=%0a", "/a?x=%",  "/\x7f"})
    EXPECT_FALSE(parse_target(bad)) << bad;
}

TEST(HttpMessage, RangesAreOneWithinTheFile) {
  using Range = std::pair<std::uint64_t, std::uint64_t>;
  EXPECT_EQ(parse_range("bytes=0-9", 100), Range(0, 10));
  EXPECT_EQ(parse_range("bytes=90-", 100), Range(90, 10));
  EXPECT_EQ(parse_range("bytes=-5", 100), Range(95, 5));
  EXPECT_EQ(parse_range("bytes=-500", 100), Range(0, 100));
  EXPECT_EQ(parse_range("bytes=50-999", 100), Range(50, 50));
  for (const char* whole :
       {"", "lines=0-9", "bytes=0-1,5-6", "bytes=x-9", "bytes=9-5", "bytes=", "bytes=99999999999999999999-"})
    EXPECT_FALSE(parse_range(whole, 100)) << whole;
  for (const char* outside : {"bytes=100-", "bytes=200-300", "bytes=-0"})
    EXPECT_THROW(parse_range(outside, 100), Problem) << outside;
  EXPECT_THROW(parse_range("bytes=0-", 0), Problem);
}

TEST(HttpMessage, NumbersInQueriesAreCheckedAgainstTheirRange) {
  Request request;
  request.target = *parse_target("/x?good=12&bad=12x&far=99&negative=-3&empty=");
  EXPECT_EQ(request.number("good", 5, 0, 20), 12);
  EXPECT_EQ(request.number("absent", 5, 0, 20), 5);
  for (const char* name : {"bad", "far", "negative", "empty"})
    EXPECT_THROW(request.number(name, 5, 0, 20), Problem) << name;
}

TEST(HttpRouter, FindsByMethodAndPattern) {
  Router router;
  const auto answer = [](const Request&) { return Response{}; };
  router.add({.method = "GET", .pattern = "/", .handler = answer});
  router.add({.method = "GET", .pattern = "/stages/{key}", .handler = answer});
  router.add({.method = "POST", .pattern = "/stages/{key}", .handler = answer});
  router.add({.method = "GET", .pattern = "/stages/{key}/files/{path*}", .handler = answer});
  const auto match = [&](const std::string& method, const char* target) {
    return router.match(method, parse_target(target)->segments);
  };
  EXPECT_EQ(match("GET", "/").route->pattern, "/");
  EXPECT_EQ(match("POST", "/stages/k").route->method, "POST");
  EXPECT_EQ(match("HEAD", "/stages/k").parameters.at("key"), "k");
  EXPECT_EQ(match("GET", "/stages/k/files/a/b.png").parameters.at("path"), "a/b.png");
  EXPECT_EQ(match("DELETE", "/stages/k").allow, "GET, HEAD, POST");
  for (const char* nothing : {"/x", "/stages", "/stages/k/x", "/stages/k/files"}) {
    EXPECT_EQ(match("GET", nothing).route, nullptr) << nothing;
    EXPECT_EQ(match("GET", nothing).allow, "") << nothing;
  }
}

// Guards against DNS rebinding: a page of another site that resolves to this machine sends its own name.
TEST(HttpServer, AnswersForItsOwnNamesOnly) {
  for (const char* own : {"127.0.0.1", "127.0.0.1:8321", "localhost:8321", "LOCALHOST", "[::1]:8321", "[::1]",
                          "10.1.2.3:80", "filo.example:443"})
    EXPECT_TRUE(is_allowed_host(own, {"filo.example"})) << own;
  for (const char* foreign : {"", ":80", "evil.example", "evil.example:8321", "localhost.evil.example",
                              "127.0.0.1.evil.example", "[evil]", "[::1"})
    EXPECT_FALSE(is_allowed_host(foreign, {"filo.example"})) << foreign;
}

TEST(HttpServer, ListenAddressesAreTakenApart) {
  EXPECT_EQ(service::parse_listen("127.0.0.1:8321"), std::pair(std::string("127.0.0.1"), std::uint16_t{8321}));
  EXPECT_EQ(service::parse_listen("[::1]:0"), std::pair(std::string("::1"), std::uint16_t{0}));
  for (const char* bad :
       {"", "8321", "127.0.0.1", "127.0.0.1:", ":80", "::1:80", "127.0.0.1:99999", "127.0.0.1:8x", "[]:80"})
    EXPECT_THROW(service::parse_listen(bad), UsageError) << bad;
}

TEST(HttpToken, IsMadeOnceForItsOwnerOnly) {
  const Scratch scratch;
  const auto path = scratch.folder / "token";
  const std::string token = load_or_make_token(path);
  EXPECT_EQ(token.size(), 64u);
  EXPECT_EQ(load_or_make_token(path), token);
  struct stat status {};
  ASSERT_EQ(stat(path.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0600u);
}

TEST(HttpToken, AFileThatOthersCanReadOrThatHoldsNoTokenIsRefused) {
  const Scratch scratch;
  const auto path = scratch.folder / "token";
  write_file_atomically(path, "0123456789abcdef0123\n", 0644);
  EXPECT_NE(error_of([&] { load_or_make_token(path); }).find("chmod 600"), std::string::npos);
  for (const char* bad : {"", "short\n", "0123456789 abcdef 0123456789"}) {
    write_file_atomically(path, bad, 0600);
    EXPECT_NE(error_of([&] { load_or_make_token(path); }), "") << bad;
  }
}

TEST(HttpToken, OnlyTheWholeTokenWithTheBearerSchemeIsTaken) {
  const std::string token = "0123456789abcdef";
  EXPECT_TRUE(carries_token("Bearer 0123456789abcdef", token));
  EXPECT_TRUE(carries_token("bearer 0123456789abcdef", token));
  for (const char* bad :
       {"", "Bearer", "Bearer ", "0123456789abcdef", "Basic 0123456789abcdef", "Bearer 0123456789abcde",
        "Bearer 0123456789abcdef0", "Bearer 0123456789abcdee", "Bearer  0123456789abcdef"})
    EXPECT_FALSE(carries_token(bad, token)) << bad;
}

}  // namespace
}  // namespace filo::http
