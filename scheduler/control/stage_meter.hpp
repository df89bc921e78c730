// How far a running stage is, how fast, and how long it takes yet: the bar of `filo run`.
#pragma once

#include <optional>
#include <string>

#include "base/json.hpp"

namespace filo {

// Takes the events of one attempt, in their order. Of a training it measures the phase that it is in: how long the
// other one takes is not known.
class StageMeter {
 public:
  void add(const Json& event);

  bool has_begun() const { return !what_.empty(); }
  // By the speed since the phase, or this attempt of it, began; unset until it can be told.
  std::optional<double> seconds_left() const;

  // "[=========>          ]  47 %  00:01:05 left, 19.9 images/s, main epoch 2/15": what matters first, since narrow
  // terminals cut the end.
  std::string line() const;

 private:
  std::string phase_;
  std::string what_;  // "main epoch 2/15", "12/48 images"
  double fraction_ = 0, time_ = 0, done_ = 0;
  double first_fraction_ = 0, first_time_ = 0, first_done_ = 0;  // when it began
  double images_per_s_ = 0;
};

}  // namespace filo
