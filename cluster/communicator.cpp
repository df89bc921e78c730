#include "cluster/communicator.hpp"

#include <utility>

namespace filo {
namespace {

void wait_quietly(Request& request) {
  try {
    request.wait();
  } catch (...) {  // a destructor has nobody to tell; the next collective fails with the same reason
  }
}

}  // namespace

Request& Request::operator=(Request&& other) noexcept {
  if (this != &other) {
    wait_quietly(*this);
    state_ = std::move(other.state_);
  }
  return *this;
}

Request::~Request() { wait_quietly(*this); }

bool Request::test() {
  if (state_ && state_->test()) state_.reset();
  return state_ == nullptr;
}

void Request::wait() {
  if (!state_) return;
  const auto state = std::exchange(state_, nullptr);
  state->wait();
}

}  // namespace filo
