#include "base/http_client.hpp"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <utility>

#include "base/files.hpp"
#include "base/text.hpp"

namespace filo {
namespace {

using Clock = std::chrono::steady_clock;

std::chrono::nanoseconds seconds(double s) { return std::chrono::nanoseconds(static_cast<std::int64_t>(s * 1e9)); }

struct Address {
  bool tls = false;
  std::string host;
  std::string port;
};

std::optional<Address> parse_url(std::string_view url) {
  Address address;
  if (url.starts_with("https://")) {
    address.tls = true;
    url.remove_prefix(8);
  } else if (url.starts_with("http://")) {
    url.remove_prefix(7);
  } else {
    return std::nullopt;
  }
  url = url.substr(0, url.find('/'));
  const auto bracket = url.rfind(']');
  auto colon = url.rfind(':');
  if (colon != std::string_view::npos && bracket != std::string_view::npos && colon < bracket)
    colon = std::string_view::npos;
  address.host = url.substr(0, colon);
  address.port = colon == std::string_view::npos ? (address.tls ? "443" : "80") : std::string(url.substr(colon + 1));
  if (address.host.size() > 2 && address.host.front() == '[')
    address.host = address.host.substr(1, address.host.size() - 2);
  const auto plain = [](char c) { return c > ' ' && c < 127; };
  if (address.host.empty() || address.port.empty() || !std::all_of(url.begin(), url.end(), plain)) return std::nullopt;
  return address;
}

template <typename T, void (*release)(T*)>
struct Release {
  void operator()(T* object) const { release(object); }
};
using Context = std::unique_ptr<SSL_CTX, Release<SSL_CTX, SSL_CTX_free>>;
using Session = std::unique_ptr<SSL, Release<SSL, SSL_free>>;

std::string system_says(int error) { return std::strerror(error); }

}  // namespace

// A blocking connection with a deadline for each of its steps; every member returns false on failure.
class HttpClient::Connection {
 public:
  bool open(const HttpTarget& target, Clock::time_point deadline) {
    close();
    problem_.clear();
    const auto address = parse_url(target.url);
    if (!address) return failed("expected http://HOST[:PORT] or https://HOST[:PORT]");
    host_ = address->host.find(':') == std::string::npos ? address->host : "[" + address->host + "]";
    host_ += ":" + address->port;
    if (!connect(*address, deadline)) return false;
    return !address->tls || start_tls(*address, target.certificate, deadline);
  }

  void close() {
    tls_.reset();
    context_.reset();
    socket_.reset();
  }

  bool is_open() const { return socket_.valid(); }
  int descriptor() const { return socket_.get(); }
  const std::string& host() const { return host_; }
  const std::string& problem() const { return problem_; }

  bool send(std::string_view bytes, Clock::time_point deadline) {
    while (!bytes.empty()) {
      const ssize_t sent = tls_ ? SSL_write(tls_.get(), bytes.data(), static_cast<int>(bytes.size()))
                                : ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent > 0) {
        bytes.remove_prefix(static_cast<std::size_t>(sent));
      } else if (!wait_after(sent, POLLOUT, deadline)) {
        return false;
      }
    }
    return true;
  }

  // At least one byte more in `bytes`.
  bool receive(std::string& bytes, Clock::time_point deadline) {
    char buffer[4096];
    for (;;) {
      const ssize_t got =
          tls_ ? SSL_read(tls_.get(), buffer, sizeof buffer) : recv(socket_.get(), buffer, sizeof buffer, 0);
      if (got > 0) {
        bytes.append(buffer, static_cast<std::size_t>(got));
        return true;
      }
      if ((got == 0 && !tls_) || !wait_after(got, POLLIN, deadline)) return false;
    }
  }

 private:
  bool connect(const Address& address, Clock::time_point deadline) {
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    const int unknown = getaddrinfo(address.host.c_str(), address.port.c_str(), &hints, &found);
    if (unknown != 0) return failed(gai_strerror(unknown));
    const std::unique_ptr<addrinfo, Release<addrinfo, freeaddrinfo>> addresses(found);
    for (const addrinfo* entry = found; entry != nullptr; entry = entry->ai_next) {
      socket_ = FileDescriptor(
          socket(entry->ai_family, entry->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, entry->ai_protocol));
      if (!socket_.valid()) continue;
      int error = ::connect(socket_.get(), entry->ai_addr, entry->ai_addrlen) == 0 ? 0 : errno;
      if (error == EINPROGRESS) error = wait(POLLOUT, deadline) ? error_of_socket() : ETIMEDOUT;
      if (error == 0) {
        const int on = 1;
        setsockopt(socket_.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        return true;
      }
      failed(system_says(error));
    }
    socket_.reset();
    return false;
  }

  int error_of_socket() const {
    int error = 0;
    socklen_t size = sizeof error;
    return getsockopt(socket_.get(), SOL_SOCKET, SO_ERROR, &error, &size) == 0 ? error : errno;
  }

  bool start_tls(const Address& address, const std::string& certificate, Clock::time_point deadline) {
    context_.reset(SSL_CTX_new(TLS_client_method()));
    if (!context_) return failed("TLS cannot be started");
    SSL_CTX_set_min_proto_version(context_.get(), TLS1_2_VERSION);
    SSL_CTX_set_mode(context_.get(), SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_verify(context_.get(), SSL_VERIFY_PEER, nullptr);
    if (!(certificate.empty() ? SSL_CTX_set_default_verify_paths(context_.get()) == 1 : trust_only(certificate)))
      return failed("no certificate to trust");
    tls_.reset(SSL_new(context_.get()));
    if (!tls_ || SSL_set_fd(tls_.get(), socket_.get()) != 1) return failed("TLS cannot be started");
    // A certificate that was handed over together with the address needs no name in it.
    if (certificate.empty() && SSL_set1_host(tls_.get(), address.host.c_str()) != 1)
      return failed("no name that a certificate may have");
    SSL_set_tlsext_host_name(tls_.get(), address.host.c_str());
    for (;;) {
      const int result = SSL_connect(tls_.get());
      if (result == 1) return true;
      if (wait_after(result, POLLIN, deadline)) continue;
      const long verified = SSL_get_verify_result(tls_.get());
      return failed(verified == X509_V_OK ? "TLS handshake failed"
                                          : std::string("certificate: ") + X509_verify_cert_error_string(verified));
    }
  }

  bool trust_only(const std::string& certificate) {
    X509_STORE* store = SSL_CTX_get_cert_store(context_.get());
    X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(context_.get()), X509_V_FLAG_PARTIAL_CHAIN);
    const std::unique_ptr<BIO, Release<BIO, BIO_free_all>> text(
        BIO_new_mem_buf(certificate.data(), static_cast<int>(certificate.size())));
    int trusted = 0;
    while (X509* one = PEM_read_bio_X509(text.get(), nullptr, nullptr, nullptr)) {
      trusted += X509_STORE_add_cert(store, one);
      X509_free(one);
    }
    ERR_clear_error();
    return trusted > 0;
  }

  bool wait(short events, Clock::time_point deadline) const {
    for (;;) {
      const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
      if (left <= 0) return false;
      pollfd entry{socket_.get(), events, 0};
      const int ready = poll(&entry, 1, static_cast<int>(std::min<long>(left, 60'000)));
      if (ready > 0) return true;
      if (ready < 0 && errno != EINTR) return false;
    }
  }

  // After a call that could not go on: waits for what it needs; false when it failed for good.
  bool wait_after(ssize_t result, short events, Clock::time_point deadline) const {
    if (tls_) {
      const int error = SSL_get_error(tls_.get(), static_cast<int>(result));
      ERR_clear_error();
      if (error == SSL_ERROR_WANT_READ) return wait(POLLIN, deadline);
      return error == SSL_ERROR_WANT_WRITE && wait(POLLOUT, deadline);
    }
    if (errno == EINTR) return Clock::now() < deadline;
    return (errno == EAGAIN || errno == EWOULDBLOCK) && wait(events, deadline);
  }

  bool failed(const std::string& problem) {
    problem_ = problem;
    return false;
  }

  FileDescriptor socket_;
  Context context_;
  Session tls_;
  std::string host_, problem_;
};

namespace {

bool names_equal(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) {
    return (x >= 'A' && x <= 'Z' ? x + 32 : x) == (y >= 'A' && y <= 'Z' ? y + 32 : y);
  });
}

constexpr std::size_t most_head_bytes = 64 << 10;

// What the headers say of the body.
struct Head {
  int status = 0;
  bool keep_open = true;
  bool chunked = false;
  std::optional<std::size_t> length;
};

std::optional<Head> parse_head(std::string_view text) {
  if (text.size() < 12 || !text.starts_with("HTTP/1.")) return std::nullopt;
  Head head;
  for (std::size_t i = 9; i < 12; ++i) {
    if (text[i] < '0' || text[i] > '9') return std::nullopt;
    head.status = head.status * 10 + (text[i] - '0');
  }
  head.keep_open = !text.starts_with("HTTP/1.0");
  for (text.remove_prefix(text.find('\n') + 1); !text.empty(); text.remove_prefix(text.find('\n') + 1)) {
    const auto line = text.substr(0, text.find('\r'));
    const auto colon = line.find(':');
    if (colon == std::string_view::npos) continue;
    auto value = line.substr(colon + 1);
    while (value.starts_with(' ')) value.remove_prefix(1);
    const auto name = line.substr(0, colon);
    if (names_equal(name, "connection") && names_equal(value, "close")) head.keep_open = false;
    if (names_equal(name, "transfer-encoding")) head.chunked = names_equal(value, "chunked");
    if (!names_equal(name, "content-length")) continue;
    std::size_t length = 0;
    const char* end = value.data() + value.size();
    if (std::from_chars(value.data(), end, length).ptr != end) return std::nullopt;
    head.length = length;
  }
  if (head.status == 204 || head.status == 304) head.length = 0;
  return head;
}

// Takes whole chunks from the front of `bytes` (RFC 9112, 7.1); sets `ended` after the last. False: no chunks.
bool take_chunks(std::string& bytes, std::string& body, bool& ended) {
  for (;;) {
    const auto line = bytes.find("\r\n");
    if (line == std::string::npos) return bytes.size() < 1024;
    std::size_t size = 0;
    const auto [stop, wrong] = std::from_chars(bytes.data(), bytes.data() + line, size, 16);
    if (wrong != std::errc() || (stop != bytes.data() + line && *stop != ';') || size > most_head_bytes << 10)
      return false;
    if (bytes.size() < line + 2 + size + 2) return true;
    if (size == 0) {  // trailers are not asked for: a server sends none
      ended = true;
      bytes.erase(0, line + 4);
      return true;
    }
    body.append(bytes, line + 2, size);
    bytes.erase(0, line + 2 + size + 2);
  }
}

}  // namespace

std::optional<HttpAnswer> HttpClient::read_answer(double timeout_s) {
  const auto deadline = Clock::now() + seconds(timeout_s);
  std::string text;
  std::size_t end;
  while ((end = text.find("\r\n\r\n")) == std::string::npos)
    if (text.size() > most_head_bytes || !connection_->receive(text, deadline)) return std::nullopt;
  const auto head = parse_head(std::string_view(text).substr(0, end + 2));
  if (!head) return std::nullopt;
  text.erase(0, end + 4);
  HttpAnswer answer{.status = head->status, .body = {}};
  bool ended = !head->chunked && head->length && *head->length <= text.size();
  bool whole = true;  // what is left out of a body that is too long is not waited for
  while (head->chunked && !ended && whole) {
    if (!take_chunks(text, answer.body, ended)) return std::nullopt;
    whole = answer.body.size() <= most_body_bytes;
    if (!ended && whole && !connection_->receive(text, deadline)) return std::nullopt;
  }
  if (!head->chunked) {
    while (!ended && (whole = text.size() <= most_body_bytes && head->length.value_or(0) <= most_body_bytes)) {
      if (!connection_->receive(text, deadline)) {
        if (head->length) return std::nullopt;
        break;  // a body of no length goes on until the server closes
      }
      ended = head->length && *head->length <= text.size();
    }
    answer.body = std::move(text);
  }
  if (!ended || !whole || !head->keep_open) connection_->close();
  return answer;
}

HttpClient::HttpClient() : connection_(std::make_unique<Connection>()) {}
HttpClient::~HttpClient() = default;

bool HttpClient::open(const HttpTarget& target, double timeout_s) {
  problem_.clear();
  if (connection_->open(target, Clock::now() + seconds(timeout_s))) return true;
  problem_ = connection_->problem();
  connection_->close();
  return false;
}

bool HttpClient::is_open() const { return connection_->is_open(); }

std::optional<HttpAnswer> HttpClient::exchange(const HttpRequest& request, double timeout_s) {
  std::string head = request.method + " " + request.path + " HTTP/1.1\r\nHost: " + connection_->host() + "\r\n";
  if (!request.body.empty() || request.method == "POST") {
    head +=
        "Content-Type: " + request.content_type + "\r\nContent-Length: " + std::to_string(request.body.size()) + "\r\n";
  }
  if (!request.authorization.empty()) head += "Authorization: " + request.authorization + "\r\n";
  head += "\r\n";
  const auto deadline = Clock::now() + seconds(timeout_s);
  std::optional<HttpAnswer> answer;
  if (connection_->send(head, deadline) && connection_->send(request.body, deadline)) answer = read_answer(timeout_s);
  problem_ = answer ? "" : "the connection ended, or no HTTP answer came within " + formatted(timeout_s, "%g s");
  if (!answer) connection_->close();
  return answer;
}

bool is_usable(const HttpTarget& target) {
  const auto safe = [](unsigned char c) { return c > ' ' && c < 127; };
  return parse_url(target.url) && std::all_of(target.token.begin(), target.token.end(), safe);
}

}  // namespace filo
