// attempts/N/events.jsonl: what happened in one attempt, one JSON object a line, append only. The worker's rank 0
// writes it; everybody else only reads, but for workspace/compaction.hpp, which takes most `step` events out of the
// long files of a stage that is done.
//
// Every line has `seq` (whole number, from 0, growing within the attempt, and without gaps until the stage is done),
// `time` (seconds since 1970, the worker's clock) and `event`, which says what else it has:
//
//   started   world_size, threads, device, products, host (of rank 0), versions {"filo", "torch"}, spec
//                                                    once for each start of the attempt
//   resumed   snapshot, step                         a training goes on from a snapshot, `step` steps done
//   progress  done, total, unit                      "images"
//   unusable  snapshot, reason                       a snapshot is passed over: damaged, or not finite
//   step      phase, epoch, epochs, step, epoch_step, steps, loss, losses {name: value}, gradient_norm, images_per_s,
//             learning_rates {group: value}, seconds {read, forward, backward, all_reduce, optimizer, other} of rank 0,
//             memory_bytes (of rank 0, resident now)
//             phase: "main" or "adapter"; step: from 1, over all phases; epoch_step: from 1, of `steps` in the epoch
//   skipped   phase, step, reason, images            a step without numbers, that changes nothing
//   epoch     phase, epoch, epochs, loss, images_per_s; where it was validated validation_loss, and
//             validation_image_auroc where that is asked for                                after an epoch's last step
//   best      phase, step, value                     a phase ends with the parameters of its best validation
//   snapshot  step, path
//   metrics   name: value, "classes", "untrained"    of an evaluation; of a training also `step`
//   stopped   signal, step (images, of an evaluation)                                       asked to stop, and did
//   used      seconds, cpu_s, memory_bytes; with GPUs gpu_memory_bytes, and gpu_use where the driver tells: before
//             finished (cluster/resource_use.hpp)
//   finished
//   failed    message; of a job that hung also hung_rank, node (cluster/watchdog.hpp)
//
// Steps that are told twice. A training that was lost goes on from its newest snapshot, as the stage's next attempt,
// and does again, and tells again, the steps since. A step (or epoch) that is told again is the same one, not a further
// one:
//   - its numbers are the last told: they are of the parameters that went on to the end (curves, reports, pages);
//   - when it was reached, and what was decided then, is the first told: a search's decisions stand, however often a
//     training is resumed.
// On the same number of ranks both are the same numbers. workspace/metric_history.hpp is the one place that merges
// them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/files.hpp"
#include "base/http_poster.hpp"
#include "base/json.hpp"

namespace filo {

// Writes one attempt's events. A line is one write(2) on an O_APPEND descriptor, so a reader sees whole lines but for a
// torn last one after a power loss. Not thread-safe: rank 0's main thread owns it.
class EventLog {
 public:
  EventLog() = default;  // writes nowhere: the ranks other than 0
  // Continues an existing file after its last whole line, with the next number. Throws Error when it cannot be opened.
  explicit EventLog(const std::filesystem::path& path);

  // Sends every further line there too. The file stays the truth: what cannot be sent is dropped.
  void also_post(std::unique_ptr<HttpPoster> poster) { poster_ = std::move(poster); }

  void write(const std::string& event, Json fields = Json::object());

 private:
  std::filesystem::path path_;
  FileDescriptor file_;
  std::unique_ptr<HttpPoster> poster_;  // none: nobody asked for events
  std::uint64_t next_sequence_ = 0;
};

// A line as the worker wrote it, and where it stands.
struct EventLine {
  int attempt = 0;
  std::int64_t sequence = 0;
  std::string text;  // without its newline
};

// One JSON object with a text `event`; unset for anything else.
std::optional<Json> parse_event(std::string_view line);
// The same, with a whole number `seq` of 0 or more besides.
std::optional<EventLine> parse_event_line(std::string_view line, int attempt);

// Follows one events.jsonl while it grows; a file that is not there yet is empty. A line counts once its newline is
// there; one that is no event, or is longer than a mebibyte, is left out. When the file is replaced by a thinned one
// (workspace/compaction.hpp), it goes on after the last number that it has seen. Not thread-safe.
class EventReader {
 public:
  EventReader() = default;
  explicit EventReader(std::filesystem::path path, int attempt = 0) : path_(std::move(path)), attempt_(attempt) {}

  // Goes on `bytes` before the file's end, at a line's begin.
  void start_near_end(std::uint64_t bytes);

  // What is new, at most about `most_bytes` of it; nothing when there is nothing new. As lines for those who hand them
  // on (those without a sequence number are left out), or parsed.
  std::vector<EventLine> read_lines(std::size_t most_bytes = 256 << 10);
  std::vector<Json> read(std::size_t most_bytes = 16 << 20);

 private:
  template <typename Use>  // use(event, text) says whether it is wanted
  void each_event(std::size_t most_bytes, const Use& use);
  bool is_told(const Json& event);

  std::filesystem::path path_;
  int attempt_ = 0;
  std::uint64_t offset_ = 0;
  bool skipping_ = false;     // within a line that is left out
  std::uint64_t inode_ = 0;   // of the file that offset_ is in
  std::int64_t newest_ = -1;  // the last number seen
  std::int64_t told_ = -1;    // likewise, in the file that this one took the place of
};

// A line for people: "12/48 images", "main epoch 2 step 3/8 loss 0.4100"; "" for events that are not progress.
std::string describe_event(const Json& event);

// How much of its stage (of its phase, for a training) is done after such an event, 0 to 1; 0 where it does not tell.
double progress_fraction(const Json& event);

}  // namespace filo
