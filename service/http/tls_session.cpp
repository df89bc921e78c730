#include <boost/beast/ssl/ssl_stream.hpp>

#include "service/http/session.hpp"

namespace filo::http {

using TlsStream = beast::ssl_stream<beast::tcp_stream>;

template <>
struct Handshake<TlsStream> {
  static Awaitable<bool> begin(TlsStream& stream) {
    error_code error;
    co_await stream.async_handshake(asio::ssl::stream_base::server, asio::redirect_error(asio::use_awaitable, error));
    co_return !error;
  }
  static Awaitable<void> end(TlsStream& stream, error_code& error) {
    co_await stream.async_shutdown(asio::redirect_error(asio::use_awaitable, error));
  }
};

asio::awaitable<void> tls_session(asio::ip::tcp::socket socket, asio::ssl::context& tls, Connections& shared) {
  Session<TlsStream> session(TlsStream(beast::tcp_stream(std::move(socket)), tls), shared);
  co_await session.run();
}

}  // namespace filo::http
