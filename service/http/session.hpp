// One connection of the server, for plain and TLS streams alike. Included by plain_session.cpp and tls_session.cpp
// only: Beast takes long to compile.
#pragma once

#include <utility>  // GCC 12: before asio/awaitable.hpp, which forgets it

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/beast/http/write.hpp>

#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "base/log.hpp"
#include "service/http/connection.hpp"
#include "service/http/token.hpp"

namespace filo::http {

namespace asio = boost::asio;
namespace beast = boost::beast;
using boost::system::error_code;

template <typename T>
using Awaitable = asio::awaitable<T>;

inline std::chrono::nanoseconds duration_of(double seconds) {
  return std::chrono::nanoseconds(static_cast<std::int64_t>(seconds * 1e9));
}

// How a kind of stream begins and ends: specialised where it is used.
template <typename Stream>
struct Handshake;  // static Awaitable<bool> begin(Stream&); static Awaitable<void> end(Stream&, error_code&)

template <typename Stream>
class Session {
 public:
  Session(Stream stream, Connections& shared) : stream_(std::move(stream)), shared_(shared), open_(shared.counters) {}

  Awaitable<void> run() {
    expires(shared_.options.limits.first_header_s);
    const bool begun = co_await Handshake<Stream>::begin(stream_);
    if (!begun) co_return;
    for (bool more = true; more;) more = co_await one_request();
    co_await close();
  }

 private:
  using Parser = beast::http::request_parser<beast::http::string_body>;

  beast::tcp_stream& transport() { return beast::get_lowest_layer(stream_); }
  void expires(double seconds) { transport().expires_after(duration_of(seconds)); }

  // Whether another request may follow on this connection.
  Awaitable<bool> one_request() {
    Parser parser;
    parser.header_limit(static_cast<std::uint32_t>(shared_.options.limits.header_bytes));
    parser.body_limit(std::uint64_t{1} << 20);
    error_code error;
    co_await beast::http::async_read_header(stream_, buffer_, parser, asio::redirect_error(asio::use_awaitable, error));
    if (error) co_return co_await refuse_malformed(error);
    ++shared_.counters.requests;

    const bool keep = parser.keep_alive() && !shared_.stopping;
    const bool head = parser.get().method() == beast::http::verb::head;
    auto admitted = admit(parser);
    if (auto* refusal = std::get_if<Response>(&admitted)) co_return co_await end_with(std::move(*refusal), head);
    auto& [target, match] = std::get<Admitted>(admitted);
    const Route& route = *match.route;

    error = co_await read_body(parser, route.most_body_bytes);
    if (error) co_return co_await refuse_malformed(error);
    const Request request = request_of(parser, std::move(target), std::move(match.parameters));
    Response response;
    if (route.quick)
      response = answer(route, request);
    else
      response = co_await asio::co_spawn(
          shared_.pool, [&route, &request]() -> Awaitable<Response> { co_return answer(route, request); },
          asio::use_awaitable);
    if (shared_.log_requests)
      log_debug("serve: " + request.method + " " + std::string(parser.get().target()) + " " +
                std::to_string(response.status));
    const bool sent = co_await send(std::move(response), head, keep);
    if (sent && keep) expires(shared_.options.limits.idle_s);
    co_return sent&& keep;
  }

  struct Admitted {
    Target target;
    Router::Match match;  // with a route
  };

  // From the header alone: what the request is for, or the answer that ends it.
  std::variant<Response, Admitted> admit(const Parser& parser) {
    using beast::http::field;
    const auto& message = parser.get();
    if (message.count(field::host) > 1 || message.count(field::authorization) > 1)
      return problem_response(400, "expected one Host and one Authorization header");
    if (!has_one_length(message))
      return problem_response(400, "expected Content-Length, or Transfer-Encoding: chunked alone");
    if (!is_allowed_host(std::string(message[field::host]), shared_.options.allowed_hosts))
      return problem_response(421, "this server does not answer for the name in Host (filo serve --allow-host)");
    auto target = parse_target(std::string_view(message.target().data(), message.target().size()));
    if (!target) return problem_response(400, "the request's path is not one this server takes");

    auto match = shared_.router.match(std::string(message.method_string()), target->segments);
    if (!is_authorized(std::string(message[field::authorization]), match)) {
      ++shared_.counters.refused_tokens;
      Response response = problem_response(401, "expected the header Authorization: Bearer TOKEN");
      response.headers.emplace_back("WWW-Authenticate", "Bearer");
      return response;
    }
    if (match.route == nullptr) {
      if (match.allow.empty()) return problem_response(404, "nothing is here");
      Response response = problem_response(405, "expected " + match.allow);
      response.headers.emplace_back("Allow", match.allow);
      return response;
    }
    const std::size_t most = match.route->most_body_bytes;
    if (parser.content_length() && *parser.content_length() > most)
      return problem_response(413, "expected at most " + std::to_string(most) + " bytes");
    return Admitted{std::move(*target), std::move(match)};
  }

  // RFC 9112, 6.3: where a body's end could be read in two ways, what follows it might be another's request.
  template <typename Message>
  static bool has_one_length(const Message& message) {
    using beast::http::field;
    const auto codings = message.count(field::transfer_encoding);
    if (codings == 0) return message.count(field::content_length) <= 1;
    return codings == 1 && message.count(field::content_length) == 0 &&
           beast::iequals(message[field::transfer_encoding], "chunked");
  }

  bool is_authorized(const std::string& header, const Router::Match& match) const {
    const Route* route = match.route;
    if (route != nullptr && !route->needs_token) return true;
    if (carries_token(header, shared_.options.token)) return true;
    return route != nullptr && route->own_token && carries_token(header, route->own_token(match.parameters));
  }

  Awaitable<error_code> read_body(Parser& parser, std::size_t most_bytes) {
    error_code error;
    parser.body_limit(most_bytes);
    if (parser.is_done()) co_return error;
    expires(shared_.options.limits.body_s);
    if (beast::iequals(parser.get()[beast::http::field::expect], "100-continue")) {
      static constexpr std::string_view go_on = "HTTP/1.1 100 Continue\r\n\r\n";
      co_await asio::async_write(stream_, asio::buffer(go_on.data(), go_on.size()),
                                 asio::redirect_error(asio::use_awaitable, error));
      if (error) co_return error;
    }
    co_await beast::http::async_read(stream_, buffer_, parser, asio::redirect_error(asio::use_awaitable, error));
    co_return error;
  }

  static Request request_of(Parser& parser, Target target, std::map<std::string, std::string> parameters) {
    auto& message = parser.get();
    Request request{.method = std::string(message.method_string()),
                    .target = std::move(target),
                    .headers = {},
                    .body = std::move(message.body()),
                    .parameters = std::move(parameters)};
    for (const char* name : {"range", "if-none-match", "last-event-id"})
      if (const auto found = message.find(name); found != message.end())
        request.headers[name] = std::string(found->value());
    return request;
  }

  static Response answer(const Route& route, const Request& request) {
    try {
      return route.handler(request);
    } catch (const Problem& problem) {
      return problem_response(problem.status(), problem.what());
    } catch (const std::exception& error) {
      log_warning("serve: " + request.method + " " + route.pattern + ": " + error.what());
      return problem_response(500, "the server could not answer; its log says why");
    }
  }

  Awaitable<bool> refuse_malformed(error_code problem) {
    using beast::http::error;
    if (problem == error::end_of_stream || problem == error::partial_message) co_return false;
    if (problem == beast::error::timeout) {
      ++shared_.counters.timeouts;
      co_return false;
    }
    if (problem.category() != make_error_code(error::bad_method).category()) co_return false;  // the connection is gone
    ++shared_.counters.malformed;
    int status = 400;
    if (problem == error::header_limit || problem == error::buffer_overflow) status = 431;
    if (problem == error::body_limit) status = 413;
    Response response = problem_response(status, "not a request this server takes: " + problem.message());
    co_return co_await end_with(std::move(response), false);
  }

  Awaitable<bool> end_with(Response response, bool head) {
    const bool sent = co_await send(std::move(response), head, false);
    (void)sent;
    co_return false;
  }

  Awaitable<bool> send(Response response, bool head, bool keep) {
    error_code error;
    if (auto* stream = std::get_if<std::shared_ptr<EventSource>>(&response.body)) {
      if (head) {
        const std::string header = response_header(response, nullptr, false);
        co_await asio::async_write(stream_, asio::buffer(header), asio::redirect_error(asio::use_awaitable, error));
        co_return false;
      }
      const std::shared_ptr<EventSource> source = std::move(*stream);
      co_await follow(source, response);
      co_return false;
    }
    std::string_view body;
    std::uint64_t length = 0;
    const auto* file = std::get_if<FilePart>(&response.body);
    if (file != nullptr) {
      length = file->length;
    } else {
      const auto* shared = std::get_if<std::shared_ptr<const std::string>>(&response.body);
      body = shared != nullptr ? std::string_view(**shared) : std::string_view(std::get<std::string>(response.body));
      length = body.size();
    }
    const std::string header = response_header(response, &length, keep);
    expires(shared_.options.limits.write_s);
    const std::array<asio::const_buffer, 2> buffers = {
        asio::buffer(header), head ? asio::const_buffer() : asio::buffer(body.data(), body.size())};
    co_await asio::async_write(stream_, buffers, asio::redirect_error(asio::use_awaitable, error));
    if (error) co_return false;
    if (file == nullptr || head) co_return true;
    co_return co_await send_file(*file);
  }

  Awaitable<bool> send_file(const FilePart& part) {
    std::string piece;
    for (std::uint64_t sent = 0; sent < part.length; sent += piece.size()) {
      const std::uint64_t left = part.length - sent, offset = part.offset + sent;
      co_await asio::co_spawn(
          shared_.pool,
          [&piece, &part, left, offset]() -> Awaitable<void> {
            piece.resize(std::min<std::uint64_t>(left, 256 << 10));
            const ssize_t got = pread(part.file.get(), piece.data(), piece.size(), static_cast<off_t>(offset));
            piece.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
            co_return;
          },
          asio::use_awaitable);
      if (piece.empty()) co_return false;  // the file shrank: what was promised cannot be kept
      expires(shared_.options.limits.write_s);
      error_code error;
      co_await asio::async_write(stream_, asio::buffer(piece), asio::redirect_error(asio::use_awaitable, error));
      if (error) co_return false;
    }
    co_return true;
  }

  // What wakes a stream's session from other threads; outlived by nothing but itself.
  struct Waker : std::enable_shared_from_this<Waker> {
    explicit Waker(const asio::any_io_executor& executor) : timer(executor) {}
    void wake() {
      if (woken.exchange(true)) return;
      asio::post(timer.get_executor(), [self = this->shared_from_this()] { self->timer.cancel(); });
    }
    asio::steady_timer timer;
    std::atomic<bool> woken{false};
  };

  Awaitable<void> follow(std::shared_ptr<EventSource> source, const Response& response) {
    const OpenStream open(shared_.counters);
    if (shared_.counters.open_streams > static_cast<std::int64_t>(shared_.options.limits.streams)) {
      co_await send(problem_response(503, "too many event streams are open"), false, false);
      co_return;
    }
    const auto executor = co_await asio::this_coro::executor;
    const auto waker = std::make_shared<Waker>(executor);
    source->on_wake([weak = std::weak_ptr<Waker>(waker)] {
      if (const auto alive = weak.lock()) alive->wake();
    });
    error_code error;
    std::string text =
        response_header(response, nullptr, false) + ":\n\n";  // a comment, so that clients see it is open
    auto written = std::chrono::steady_clock::now();
    while (!shared_.stopping) {
      if (!text.empty()) {
        expires(shared_.options.limits.write_s);
        co_await asio::async_write(stream_, asio::buffer(text), asio::redirect_error(asio::use_awaitable, error));
        if (error) co_return;
        written = std::chrono::steady_clock::now();
      }
      transport().expires_never();
      waker->woken = false;
      text = co_await asio::co_spawn(
          shared_.pool, [&source]() -> Awaitable<std::string> { co_return source->next(); }, asio::use_awaitable);
      if (!text.empty()) continue;
      if (std::chrono::steady_clock::now() - written > std::chrono::seconds(15)) {
        text = ":\n\n";
        continue;
      }
      waker->timer.expires_after(std::min<std::chrono::milliseconds>(source->poll_interval(), shared_.longest_wait));
      if (!waker->woken) co_await waker->timer.async_wait(asio::redirect_error(asio::use_awaitable, error));
    }
  }

  // What the other side still sends is read for a moment: closing at once would take the answer away from it.
  Awaitable<void> close() {
    error_code error;
    expires(2);
    co_await Handshake<Stream>::end(stream_, error);
    std::array<char, 4096> rest;
    for (std::size_t total = 0; !error && total < (1 << 20);)
      total +=
          co_await transport().async_read_some(asio::buffer(rest), asio::redirect_error(asio::use_awaitable, error));
    transport().close();
  }

  Stream stream_;
  Connections& shared_;
  OpenConnection open_;
  beast::flat_buffer buffer_{64 << 10};
};

}  // namespace filo::http
