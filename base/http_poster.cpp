#include "base/http_poster.hpp"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "base/signals.hpp"

namespace filo {
namespace {

std::chrono::nanoseconds seconds(double s) { return std::chrono::nanoseconds(static_cast<std::int64_t>(s * 1e9)); }

}  // namespace

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
  HttpClient client;
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
    if (client.is_open() && exchange(body)) return true;
    const auto target = find_target();
    if (!target || !client.open(*target, options.timeout_s)) return false;
    token = target->token;
    return exchange(body);
  }

  bool exchange(const std::string& body) {
    const auto answer = client.exchange({.method = "POST",
                                         .path = path,
                                         .body = body,
                                         .content_type = "application/x-ndjson",
                                         .authorization = token.empty() ? "" : "Bearer " + token},
                                        options.timeout_s);
    return answer && answer->status >= 200 && answer->status < 300;
  }
};

HttpPoster::HttpPoster(std::function<std::optional<HttpTarget>()> find_target, std::string path,
                       HttpPosterOptions options)
    : state_(std::make_shared<State>(std::move(find_target), std::move(path), options)) {
  const SignalsBlocked blocked;
  std::thread([state = state_] { state->run(); }).detach();
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
