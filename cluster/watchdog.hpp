// Notices that a job hangs: for a given time no rank's main thread has come to another place, because a process is
// stopped, a node, a GPU or a file server does not answer, or the ranks wait for each other.
//
// The ranks tell each other where they are by files, not by MPI: the main thread may be inside MPI for ever, and no
// other thread may call it meanwhile. While a rank gets on, it writes its file every ten seconds, or more often where
// the timeout is short, and reads none. Only a rank that has been at one place for long reads those of the others.
//
// Hosts' clocks differ, and network file systems show files late. So a rank judges by its own clock alone, and by what
// changes: its own place has not changed for the timeout, and every other rank either says the same of itself, or has
// shown no sign of life for the last part of that time, a minute and a half where the timeout is long.
#pragma once

#include <algorithm>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace filo {

struct Hang {
  int rank = 0;         // that gives no sign of life, else the one whose main thread came least far
  std::string node;     // where it runs; "": not known
  std::string message;  // one line: where each rank is, and for how long
};

// Where the ranks are, as one of them knows it: what Watchdog decides by, without its files, threads and clock.
// Thread-safe.
class Whereabouts {
 public:
  Whereabouts(int rank, int world_size, double timeout_s, std::string node);

  // The main thread comes to another place. All ranks should tell of the same places in the same order.
  void at(std::string place);

  // How often look() is to be called. Where more than four times that lies between two calls the process was stopped,
  // or all of the machine: such a time counts as one of these.
  double look_every_s() const { return look_every_s_; }

  // Set when the job hangs. Rank 0 says so at once, the others some seconds later, lest all say it.
  // `now_s`: of any clock that does not go back.
  std::optional<Hang> look(double now_s);

  // What is to be written for the other ranks now; unset: nothing yet.
  std::optional<std::string> next_heartbeat();
  // Whether the others' heartbeats are to be read now; what was read of one; and that all were tried.
  bool wants_heartbeats() const;
  void heard(int rank, const std::string& heartbeat);
  void heard_all();

 private:
  struct Other {
    std::string heartbeat, place, node;
    long places = -1;     // that it came to; below 0: it was never heard of
    double since_s = 0;   // it has been at its place, at the latest
    double change_s = 0;  // its heartbeat changed
  };
  // While it watches, and while it does not. Of many ranks each reads less often: all read all.
  double exchange_every_s() const { return std::min(watched_s_ / 6, std::max(1.0, world_size_ / 16.0)); }
  double heartbeat_every_s() const { return std::min(watched_s_ / 6, 10.0); }
  double silence_s() const { return watched_s_ / 2; }  // of a rank that is not there any more
  bool is_silent(const Other& other) const;
  bool is_hung() const;
  Hang describe() const;

  const int rank_, world_size_;
  const double timeout_s_, watched_s_, look_every_s_;
  const std::string node_;

  mutable std::mutex mutex_;
  double last_look_s_ = -1;
  double awake_s_ = 0;  // the time that counts; the others below are of it
  std::string place_ = "the start";
  long places_ = 0, places_looked_at_ = 0;
  double since_s_ = 0;        // at this place
  double hung_since_s_ = -1;  // below 0: it does not hang
  double heartbeat_s_ = 0;    // the last one
  long heartbeats_ = 0;       // so far
  bool is_watching_ = false;  // the others
  double watching_since_s_ = 0;
  double heard_all_s_ = 0;
  std::vector<Other> others_;  // by rank; this one's own place is unused
};

struct WatchdogOptions {
  int rank = 0, world_size = 1;
  double timeout_s = 0;                                             // 0: nobody watches
  std::string node{};                                               // of this rank
  std::function<std::filesystem::path(int rank)> heartbeat_file{};  // in a folder that is there, and that all ranks see
  std::function<void(const Hang&)> report{};  // in a thread of its own, given a second: a file system may be the cause
  std::function<void()> end{};                // then; does not return
};

// Does nothing before start(): it can be made before MPI starts, so that it outlives MPI's end.
class Watchdog {
 public:
  Watchdog();
  ~Watchdog();
  void start(WatchdogOptions options);
  void at(std::string place);  // as Whereabouts::at(); by the thread that called start()

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace filo
