// Requests to an HTTP/1.1 server, one after another over one connection; each step has a deadline.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>

namespace filo {

// Where a server is, and how it knows us.
struct HttpTarget {
  std::string url;          // "http://HOST:PORT" or "https://HOST:PORT"
  std::string token;        // sent as "Authorization: Bearer TOKEN"; "": none
  std::string certificate;  // https: PEM of the one certificate (or its authority) that is trusted; "": the system's
};

// Whether `url` is of this form and `token` may stand in a header.
bool is_usable(const HttpTarget& target);

struct HttpRequest {
  std::string method = "GET";
  std::string path;  // with its query, percent-encoded: "/api/2.0/mlflow/experiments/get-by-name?experiment_name=a"
  std::string body{};
  std::string content_type = "application/json";
  std::string authorization{};  // the header's value: "Bearer TOKEN"; "": none
};

struct HttpAnswer {
  int status = 0;
  std::string body;
};

// Not thread-safe. Redirections are not followed; proxies are not asked.
class HttpClient {
 public:
  static constexpr std::size_t most_body_bytes = 4 << 20;  // of an answer; what is longer is cut

  HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;
  ~HttpClient();

  // Connects anew, within the deadline but for the look-up of the name. https: TLS 1.2 or newer, and a certificate
  // that is not trusted is refused.
  bool open(const HttpTarget& target, double timeout_s);
  // Whether a connection is there: one that was kept open may have been closed by the server meanwhile.
  bool is_open() const;

  // Unset when no answer came: the request may have arrived all the same. `timeout_s` for sending, and again for the
  // answer.
  std::optional<HttpAnswer> exchange(const HttpRequest& request, double timeout_s);

  // Why the last call failed: "Connection refused"; "" when it did not.
  const std::string& problem() const { return problem_; }

 private:
  class Connection;
  std::optional<HttpAnswer> read_answer(double timeout_s);

  std::unique_ptr<Connection> connection_;
  std::string problem_;
};

}  // namespace filo
