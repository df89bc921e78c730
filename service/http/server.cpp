#include "service/http/server.hpp"

#include <utility>  // GCC 12: before asio/awaitable.hpp, which forgets it

#include <sys/resource.h>
#include <unistd.h>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <algorithm>
#include <cstring>
#include <ctime>

#include "base/error.hpp"
#include "base/host.hpp"
#include "base/log.hpp"
#include "service/http/connection.hpp"

namespace filo::http {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;
using tcp = asio::ip::tcp;
constexpr int file_threads = 2;
constexpr auto farewell = std::chrono::milliseconds(300);

std::string_view date_now() {
  thread_local std::time_t shown = 0;
  thread_local char text[40];
  const std::time_t now = std::time(nullptr);
  if (now != shown) {
    std::tm parts{};
    gmtime_r(&now, &parts);
    static const char* const days[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char* const months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                         "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    std::snprintf(text, sizeof text, "%s, %02d %s %04d %02d:%02d:%02d GMT", days[parts.tm_wday % 7],
                  parts.tm_mday % 100, months[parts.tm_mon % 12], (parts.tm_year + 1900) % 10000, parts.tm_hour % 100,
                  parts.tm_min % 100, parts.tm_sec % 100);
    shown = now;
  }
  return text;
}

// Descriptors for connections beside those for files: as many as the system gives.
std::size_t possible_connections(std::size_t wanted) {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return std::min<std::size_t>(wanted, 512);
  constexpr rlim_t for_files = 256;
  const rlim_t enough = std::min<rlim_t>(limit.rlim_max, wanted + for_files);
  if (limit.rlim_cur < enough) {
    limit.rlim_cur = enough;
    setrlimit(RLIMIT_NOFILE, &limit);
    getrlimit(RLIMIT_NOFILE, &limit);
  }
  return std::min<std::size_t>(wanted,
                               limit.rlim_cur > 2 * for_files ? limit.rlim_cur - for_files : limit.rlim_cur / 2);
}

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

void load_certificate(asio::ssl::context& tls, const ServerOptions& options) {
  const auto check = [](const error_code& error, const std::filesystem::path& path, const char* what) {
    if (error)
      throw UsageError("serve: " + path.string(), std::string("is no ") + what + " in PEM: " + error.message());
  };
  error_code error;
  tls.set_options(asio::ssl::context::default_workarounds | asio::ssl::context::no_sslv2 |
                  asio::ssl::context::no_sslv3 | asio::ssl::context::no_tlsv1 | asio::ssl::context::no_tlsv1_1);
  tls.use_certificate_chain_file(options.certificate.string(), error);
  check(error, options.certificate, "certificate");
  tls.use_private_key_file(options.key.string(), asio::ssl::context::pem, error);
  check(error, options.key, "private key of the certificate");
}

}  // namespace

bool is_allowed_host(const std::string& host_header, const std::vector<std::string>& allowed) {
  std::string host = lower(host_header);
  if (host.starts_with('[')) {
    const auto end = host.find(']');
    if (end == std::string::npos) return false;
    error_code error;
    asio::ip::make_address_v6(host.substr(1, end - 1), error);
    return !error && (end + 1 == host.size() || host[end + 1] == ':');
  }
  host = host.substr(0, host.find(':'));
  if (host.empty()) return false;
  error_code error;
  asio::ip::make_address_v4(host, error);
  if (!error || host == "localhost") return true;
  static const std::string machine = lower(host_name());
  if (host == machine || host == machine.substr(0, machine.find('.'))) return true;
  return std::any_of(allowed.begin(), allowed.end(), [&](const std::string& name) { return lower(name) == host; });
}

std::string response_header(const Response& response, const std::uint64_t* length, bool keep_alive) {
  std::string text = "HTTP/1.1 " + std::to_string(response.status) + " ";
  text += reason_phrase(response.status);
  text += "\r\nDate: ";
  text += date_now();
  text += "\r\nX-Content-Type-Options: nosniff\r\n";
  // What a browser shows or runs of an answer: an answer without content gets by without these.
  if (response.status != 204)
    text +=
        "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n"
        "X-Frame-Options: DENY\r\nReferrer-Policy: no-referrer\r\nCross-Origin-Resource-Policy: same-origin\r\n"
        "Cross-Origin-Opener-Policy: same-origin\r\n";
  const auto sets = [&](const char* name) {
    return std::any_of(response.headers.begin(), response.headers.end(),
                       [&](const auto& header) { return header.first == name; });
  };
  if (!sets("Cache-Control")) text += "Cache-Control: no-store\r\n";
  for (const auto& [name, value] : response.headers) text += name + ": " + value + "\r\n";
  if (!response.content_type.empty()) text += "Content-Type: " + response.content_type + "\r\n";
  if (length != nullptr && response.status != 204 && response.status != 304)
    text += "Content-Length: " + std::to_string(*length) + "\r\n";
  text += keep_alive ? "Connection: keep-alive\r\n\r\n" : "Connection: close\r\n\r\n";
  return text;
}

struct Server::State {
  State(const ServerOptions& given, const Router& router, ServerCounters& counters)
      : options(given), shared{options, router, counters, pool, {}, {}} {
    options.limits.connections = possible_connections(options.limits.connections);
    const char* level = std::getenv("FILO_LOG");
    shared.log_requests = level != nullptr && (std::strcmp(level, "debug") == 0 || std::strcmp(level, "trace") == 0);
    if (!options.certificate.empty()) load_certificate(tls, options);
    listen();
  }

  void listen() {
    const std::string where = "serve: " + options.address + ":" + std::to_string(options.port);
    error_code error;
    const auto address = asio::ip::make_address(options.address, error);
    if (error) throw UsageError(where, "expected an IP address and a port, as in 127.0.0.1:8321 or [::1]:8321");
    const tcp::endpoint endpoint(address, options.port);
    acceptor.open(endpoint.protocol(), error);
    if (!error) acceptor.set_option(asio::socket_base::reuse_address(true), error);
    if (!error) acceptor.bind(endpoint, error);
    if (!error) acceptor.listen(4096, error);
    if (error)
      throw UsageError(where, "cannot listen there: " + error.message() + " (filo serve --listen takes another)");
  }

  asio::awaitable<void> accept() {
    for (;;) {
      error_code error;
      tcp::socket socket = co_await acceptor.async_accept(asio::redirect_error(asio::use_awaitable, error));
      if (!acceptor.is_open()) co_return;
      if (error) {  // no descriptor is left, or the other side has gone again
        asio::steady_timer pause(io, std::chrono::milliseconds(50));
        co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, error));
        continue;
      }
      ++shared.counters.connections;
      if (shared.counters.open_connections >= static_cast<std::int64_t>(options.limits.connections)) {
        ++shared.counters.refused_connections;
        continue;
      }
      socket.set_option(tcp::no_delay(true), error);
      if (options.certificate.empty())
        asio::co_spawn(io, plain_session(std::move(socket), shared), asio::detached);
      else
        asio::co_spawn(io, tls_session(std::move(socket), tls, shared), asio::detached);
    }
  }

  ServerOptions options;
  asio::thread_pool pool{file_threads};
  asio::io_context io{1};
  asio::ssl::context tls{asio::ssl::context::tls_server};
  tcp::acceptor acceptor{io};
  Connections shared;
};

Server::Server(const ServerOptions& options, const Router& router, ServerCounters& counters)
    : state_(std::make_unique<State>(options, router, counters)) {}

Server::~Server() {
  state_->io.stop();
  state_->pool.join();
}

std::uint16_t Server::port() const { return state_->acceptor.local_endpoint().port(); }

void Server::run() {
  asio::co_spawn(state_->io, state_->accept(), asio::detached);
  const auto guard = asio::make_work_guard(state_->io);
  state_->io.run();
  state_->pool.join();
}

void Server::stop() {
  state_->shared.stopping = true;
  asio::post(state_->io, [this] {
    error_code ignored;
    state_->acceptor.close(ignored);
    const auto timer = std::make_shared<asio::steady_timer>(state_->io, farewell);
    timer->async_wait([this, timer](error_code) { state_->io.stop(); });
  });
}

}  // namespace filo::http
