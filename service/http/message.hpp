// Requests and responses as handlers see them: no sockets, no Boost.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/files.hpp"
#include "base/json.hpp"

namespace filo::http {

// A request target taken apart. Segments and query are percent-decoded once.
struct Target {
  std::vector<std::string> segments;  // "/api/v1/x" -> api, v1, x; "/" -> none
  std::map<std::string, std::string> query;
};

// Unset when it is no absolute path, is not well encoded, or when a decoded segment is empty, "." or "..", or holds a
// slash, a backslash or a control character: no handler ever sees such a segment.
std::optional<Target> parse_target(std::string_view target);

struct Request {
  std::string method;
  Target target;
  std::map<std::string, std::string> headers;  // names in lower case; repeated ones joined by ", "
  std::string body;
  std::map<std::string, std::string> parameters;  // what {NAME} of the route's pattern stands for

  std::string header(const std::string& lower_case_name) const;
  std::string query(const std::string& name) const;
  // The query's value as a number within [least, most], `otherwise` when it is not given. Throws Problem 400.
  std::int64_t number(const std::string& name, std::int64_t otherwise, std::int64_t least, std::int64_t most) const;
};

// What a handler throws to answer with an error.
class Problem : public std::runtime_error {
 public:
  Problem(int status, const std::string& detail) : std::runtime_error(detail), status_(status) {}
  int status() const { return status_; }

 private:
  int status_;
};

// Part of an open file.
struct FilePart {
  FileDescriptor file;
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
};

// A stream of server-sent events. One thread at a time calls it.
class EventSource {
 public:
  virtual ~EventSource() = default;
  // `wake` may be called from any thread, whenever next() may have something before the poll interval is over.
  virtual void on_wake(std::function<void()> wake) = 0;
  // What is new, as text/event-stream; "" for nothing. May read files.
  virtual std::string next() = 0;
  virtual std::chrono::milliseconds poll_interval() const = 0;
};

struct Response {
  int status = 200;
  std::string content_type{};                                  // "": none
  std::vector<std::pair<std::string, std::string>> headers{};  // besides those that every response carries
  std::variant<std::string, std::shared_ptr<const std::string>, FilePart, std::shared_ptr<EventSource>> body{};
};

Response json_response(const Json& value, int status = 200);
// RFC 9457: {"title", "status", "detail"}.
Response problem_response(int status, const std::string& detail);
std::string_view reason_phrase(int status);

// A byte range "bytes=FIRST-LAST", "bytes=FIRST-" or "bytes=-LAST_BYTES" of `size` bytes as (offset, length). Unset for
// no such header, another unit or several ranges: the whole is then sent. Throws Problem 416.
std::optional<std::pair<std::uint64_t, std::uint64_t>> parse_range(const std::string& header, std::uint64_t size);

// Makes an answer with the `length` bytes at `offset` of `size` what it is called: 206, with Content-Range.
void set_partial(Response& response, std::uint64_t offset, std::uint64_t length, std::uint64_t size);

}  // namespace filo::http
