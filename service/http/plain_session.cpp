#include "service/http/session.hpp"

namespace filo::http {

template <>
struct Handshake<beast::tcp_stream> {
  static Awaitable<bool> begin(beast::tcp_stream&) { co_return true; }
  static Awaitable<void> end(beast::tcp_stream& stream, error_code& error) {
    stream.socket().shutdown(asio::ip::tcp::socket::shutdown_send, error);
    co_return;
  }
};

asio::awaitable<void> plain_session(asio::ip::tcp::socket socket, Connections& shared) {
  Session<beast::tcp_stream> session(beast::tcp_stream(std::move(socket)), shared);
  co_await session.run();
}

}  // namespace filo::http
