#include "scheduler/control/stage_meter.hpp"

#include <algorithm>
#include <cmath>

#include "base/text.hpp"
#include "settings/resources.hpp"
#include "workspace/events.hpp"

namespace filo {
namespace {

constexpr int cells = 20;

std::string whole(const Json& event, const char* key) { return formatted(number_of(event, key), "%.0f"); }

}  // namespace

void StageMeter::add(const Json& event) {
  const std::string kind = text_of(event, "event");
  if (kind == "started") *this = StageMeter();  // a job that was started again
  if (kind != "progress" && kind != "step" && kind != "epoch") return;
  const std::string phase = text_of(event, "phase");
  const double done = number_of(event, "done");
  const bool begins = what_.empty() || phase != phase_;
  phase_ = phase;
  fraction_ = progress_fraction(event);
  time_ = number_of(event, "time");
  done_ = done;
  if (begins) {
    first_fraction_ = fraction_;
    first_time_ = time_;
    first_done_ = done_;
  }
  what_ = kind == "progress" ? whole(event, "done") + "/" + whole(event, "total") + " " + text_of(event, "unit")
                             : phase + " epoch " + whole(event, "epoch") + "/" + whole(event, "epochs");
  images_per_s_ = number_of(event, "images_per_s", kind == "epoch" ? images_per_s_ : 0);
  if (kind == "progress" && text_of(event, "unit") == "images" && time_ > first_time_)
    images_per_s_ = (done_ - first_done_) / (time_ - first_time_);
}

std::optional<double> StageMeter::seconds_left() const {
  const double gone = fraction_ - first_fraction_;
  if (gone <= 0 || time_ <= first_time_) return std::nullopt;
  return (1 - fraction_) * (time_ - first_time_) / gone;
}

std::string StageMeter::line() const {
  const int full = static_cast<int>(std::floor(std::clamp(fraction_, 0.0, 1.0) * cells));
  std::string bar(static_cast<std::size_t>(full), '=');
  if (full < cells) bar += '>';
  bar.resize(cells, ' ');
  std::string text = "[" + bar + "] " + formatted(std::floor(fraction_ * 100), "%3.0f %%") + "  ";
  if (const auto left = seconds_left()) text += time_text(static_cast<std::int64_t>(std::ceil(*left))) + " left, ";
  if (images_per_s_ > 0) text += formatted(images_per_s_, "%.1f images/s") + ", ";
  text += what_;
  return text;
}

}  // namespace filo
