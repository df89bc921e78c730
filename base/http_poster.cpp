#include "base/http_poster.hpp"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <deque>
#include <mutex>
#include <string_view>
#include <thread>

#include "base/error.hpp"
#include "base/files.hpp"

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

// A blocking connection with a deadline for each of its steps; every member returns false on failure.
class Connection {
 public:
  bool open(const HttpTarget& target, double timeout_s) {
    close();
    const auto address = parse_url(target.url);
    if (!address) return false;
    host_ = address->host.find(':') == std::string::npos ? address->host : "[" + address->host + "]";
    host_ += ":" + address->port;
    const auto deadline = Clock::now() + seconds(timeout_s);
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
    if (getaddrinfo(address.host.c_str(), address.port.c_str(), &hints, &found) != 0) return false;
    const std::unique_ptr<addrinfo, Release<addrinfo, freeaddrinfo>> addresses(found);
    for (const addrinfo* entry = found; entry != nullptr; entry = entry->ai_next) {
      socket_ = FileDescriptor(
          socket(entry->ai_family, entry->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, entry->ai_protocol));
      if (!socket_.valid()) continue;
      const int result = ::connect(socket_.get(), entry->ai_addr, entry->ai_addrlen);
      if (result == 0 || (errno == EINPROGRESS && wait(POLLOUT, deadline) && error_of_socket() == 0)) {
        const int on = 1;
        setsockopt(socket_.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        return true;
      }
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
    if (!context_) return false;
    SSL_CTX_set_min_proto_version(context_.get(), TLS1_2_VERSION);
    SSL_CTX_set_mode(context_.get(), SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_verify(context_.get(), SSL_VERIFY_PEER, nullptr);
    if (!(certificate.empty() ? SSL_CTX_set_default_verify_paths(context_.get()) == 1 : trust_only(certificate)))
      return false;
    tls_.reset(SSL_new(context_.get()));
    if (!tls_ || SSL_set_fd(tls_.get(), socket_.get()) != 1) return false;
    // A certificate that was handed over together with the address needs no name in it.
    if (certificate.empty() && SSL_set1_host(tls_.get(), address.host.c_str()) != 1) return false;
    SSL_set_tlsext_host_name(tls_.get(), address.host.c_str());
    for (;;) {
      const int result = SSL_connect(tls_.get());
      if (result == 1) return true;
      if (!wait_after(result, POLLIN, deadline)) return false;
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

  FileDescriptor socket_;
  Context context_;
  Session tls_;
  std::string host_;
};

bool names_equal(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) {
    return (x >= 'A' && x <= 'Z' ? x + 32 : x) == (y >= 'A' && y <= 'Z' ? y + 32 : y);
  });
}

struct Answer {
  int status = 0;
  bool keep_open = true;
};

// Reads one response and throws its body away; unset on a connection that ended or an answer that is not HTTP.
std::optional<Answer> read_answer(Connection& connection, Clock::time_point deadline) {
  constexpr std::size_t most = 64 << 10;
  std::string text;
  std::size_t end;
  while ((end = text.find("\r\n\r\n")) == std::string::npos)
    if (text.size() > most || !connection.receive(text, deadline)) return std::nullopt;
  if (text.size() < 12 || !text.starts_with("HTTP/1.")) return std::nullopt;
  Answer answer;
  for (std::size_t i = 9; i < 12; ++i) {
    if (text[i] < '0' || text[i] > '9') return std::nullopt;
    answer.status = answer.status * 10 + (text[i] - '0');
  }
  std::size_t length = 0;
  std::string_view headers(text.data(), end + 2);
  for (headers.remove_prefix(headers.find('\n') + 1); !headers.empty(); headers.remove_prefix(headers.find('\n') + 1)) {
    const auto line = headers.substr(0, headers.find('\r'));
    const auto colon = line.find(':');
    if (colon == std::string_view::npos) continue;
    auto value = line.substr(colon + 1);
    while (value.starts_with(' ')) value.remove_prefix(1);
    if (names_equal(line.substr(0, colon), "connection") && names_equal(value, "close")) answer.keep_open = false;
    if (names_equal(line.substr(0, colon), "transfer-encoding")) answer.keep_open = false;
    if (names_equal(line.substr(0, colon), "content-length") &&
        std::from_chars(value.data(), value.data() + value.size(), length).ptr != value.data() + value.size())
      return std::nullopt;
  }
  if (length > most) answer.keep_open = false;
  while (answer.keep_open && text.size() < end + 4 + length)
    if (!connection.receive(text, deadline)) return std::nullopt;
  return answer;
}

}  // namespace

bool is_usable(const HttpTarget& target) {
  const auto safe = [](unsigned char c) { return c > ' ' && c < 127; };
  return parse_url(target.url) && std::all_of(target.token.begin(), target.token.end(), safe);
}

struct HttpPoster::State {
  State(std::function<std::optional<HttpTarget>()> find, std::string where, HttpPosterOptions chosen)
      : find_target(std::move(find)), path(std::move(where)), options(chosen) {}

  const std::function<std::optional<HttpTarget>()> find_target;
  const std::string path;
  const HttpPosterOptions options;

  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::string> queue;
  std::size_t queued_bytes = 0;
  std::uint64_t delivered = 0;
  std::uint64_t dropped = 0;
  bool closing = false;
  bool ended = false;

  // Of the thread alone.
  Connection connection;
  std::string token;

  void run() {
    double pause_s = options.pause_s;
    std::unique_lock lock(mutex);
    for (;;) {
      changed.wait(lock, [&] { return closing || !queue.empty(); });
      if (!closing) changed.wait_for(lock, seconds(options.gather_s), [&] { return closing; });
      if (queue.empty()) break;
      std::size_t lines = 0;
      const std::string body = take_batch(lines);
      lock.unlock();
      const bool sent = deliver(body);
      lock.lock();
      if (sent) {
        delivered += lines;
        pause_s = options.pause_s;
        continue;
      }
      // What piles up while the server is away is old news by the time it is back; its own file has it.
      dropped += lines + queue.size();
      queue.clear();
      queued_bytes = 0;
      if (closing) break;
      changed.wait_for(lock, seconds(pause_s), [&] { return closing; });
      pause_s = std::min(60.0, pause_s * 2);
    }
    ended = true;
    changed.notify_all();
  }

  std::string take_batch(std::size_t& lines) {
    std::string body;
    while (!queue.empty() && (body.empty() || body.size() + queue.front().size() < options.batch_bytes)) {
      body += queue.front();
      body += '\n';
      queued_bytes -= queue.front().size();
      queue.pop_front();
      ++lines;
    }
    return body;
  }

  // A connection that was kept open may have been closed by the server meanwhile: then once more on a new one.
  bool deliver(const std::string& body) {
    if (connection.is_open() && exchange(body)) return true;
    const auto target = find_target();
    if (!target || !connection.open(*target, options.timeout_s)) return false;
    token = target->token;
    return exchange(body);
  }

  bool exchange(const std::string& body) {
    std::string head = "POST " + path + " HTTP/1.1\r\nHost: " + connection.host() +
                       "\r\nContent-Type: application/x-ndjson\r\nContent-Length: " + std::to_string(body.size()) +
                       "\r\n";
    if (!token.empty()) head += "Authorization: Bearer " + token + "\r\n";
    head += "\r\n";
    const auto deadline = Clock::now() + seconds(options.timeout_s);
    std::optional<Answer> answer;
    if (connection.send(head, deadline) && connection.send(body, deadline)) answer = read_answer(connection, deadline);
    if (!answer || !answer->keep_open) connection.close();
    return answer && answer->status >= 200 && answer->status < 300;
  }
};

HttpPoster::HttpPoster(std::function<std::optional<HttpTarget>()> find_target, std::string path,
                       HttpPosterOptions options)
    : state_(std::make_shared<State>(std::move(find_target), std::move(path), options)) {
  // The stop signals are for the main thread.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  std::thread([state = state_] { state->run(); }).detach();
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

HttpPoster::~HttpPoster() {
  std::unique_lock lock(state_->mutex);
  state_->closing = true;
  state_->changed.notify_all();
  state_->changed.wait_for(lock, seconds(state_->options.linger_s), [&] { return state_->ended; });
}

void HttpPoster::post(std::string line) noexcept {
  try {
    const std::lock_guard lock(state_->mutex);
    if (state_->queued_bytes + line.size() > state_->options.most_queued_bytes) {
      ++state_->dropped;
      return;
    }
    state_->queued_bytes += line.size();
    state_->queue.push_back(std::move(line));
    state_->changed.notify_all();
  } catch (...) {  // out of memory: a line less
  }
}

std::uint64_t HttpPoster::delivered() const {
  const std::lock_guard lock(state_->mutex);
  return state_->delivered;
}

std::uint64_t HttpPoster::dropped() const {
  const std::lock_guard lock(state_->mutex);
  return state_->dropped;
}

}  // namespace filo
