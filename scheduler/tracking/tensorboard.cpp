#include "scheduler/tracking/tensorboard.hpp"

#include "base/text.hpp"
#include "scheduler/tracking/event_file.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;

// TensorBoard shows a run under its folder's name.
std::string folder_name(const std::string& run) {
  std::string name = cut_text(run, 150);
  for (char& c : name)
    if (c == '/' || static_cast<unsigned char>(c) < ' ') c = '_';
  return name.starts_with('.') ? "_" + name : name;
}

}  // namespace

// Relative to the folder. What another run of this name left, before the settings changed, stays.
std::string TensorBoardSink::file_for(const TrackedRun& run, double time) const {
  std::string name = folder_name(run.name);
  std::error_code error;
  if (fs::exists(folder_ / name, error)) name += " " + run.key.substr(0, 8);
  fs::create_directories(folder_ / name);
  return name + "/events.out.tfevents." + formatted(time, "%.0f") + ".filo";
}

void TensorBoardSink::tell(const TrackedRun& run, Json& memory, Json&, const RunBatch& batch) {
  const double begin = batch.restart ? batch.restart_time : batch.points.front().time;
  Json written = memory;
  std::string records;
  if (memory.is_null()) {
    written = {{"file", file_for(run, begin)}, {"bytes", 0}};
    records = event_record::version(begin);
  }
  if (batch.restart) records += event_record::restart(*batch.restart, batch.restart_time);
  for (const auto& point : batch.points)
    records += event_record::scalar(point.name, point.value, point.step, point.time);
  const auto at = written.at("bytes").get<std::uint64_t>();
  write_records(folder_ / written.at("file").get<std::string>(), at, records);
  written["bytes"] = at + records.size();
  memory = std::move(written);
}

bool TensorBoardSink::is_lost(const Json& memory) const {
  std::error_code error;
  const auto size = fs::file_size(folder_ / memory.at("file").get<std::string>(), error);
  return error || size < memory.at("bytes").get<std::uint64_t>();
}

}  // namespace filo
