#include "scheduler/executors/bad_nodes.hpp"

#include <algorithm>
#include <array>
#include <set>

#include "base/error.hpp"
#include "base/files.hpp"
#include "base/host.hpp"
#include "base/log.hpp"
#include "base/text.hpp"
#include "settings/resources.hpp"

namespace filo {
namespace {

// Each @mark@ is a number that health_check() puts in.
constexpr const char* check_always = R"sh(
refuse_node() {
  echo "filo: the node $node is not fit for work: $*" >&2
  leave @exit@
}
stamp=$folder/.health.$SLURM_JOB_ID
skew=$({ : >"$stamp"; } 2>/dev/null && echo $(($(date +%s) - $(stat -c %Z "$stamp")))) || refuse_node "the workspace cannot be written"
rm -f "$stamp"
[ "${skew#-}" -le 600 ] || refuse_node "its clock is $skew s off the file server's"
)sh";

// Three quarters are enough: of a whole node's memory the system itself keeps some.
constexpr const char* check_memory = R"sh(asked=@kilobytes@ free=$(awk '/^MemAvailable:/ {print $2}' /proc/meminfo)
[ "${free:-$asked}" -ge $((asked / 4 * 3)) ] || refuse_node "$((free / 1024)) MiB of its memory are free, the stage asks for $((asked / 1024))"
)sh";

// With "GPU 0: ..." one line each, and "  MIG ..." for what a GPU was divided into.
constexpr const char* check_gpus = R"sh(if command -v nvidia-smi >/dev/null; then
  gpus=$(timeout --kill-after=5 20 nvidia-smi -L 2>&1) || refuse_node "nvidia-smi fails: ${gpus##*$'\n'}"
  seen=$(grep -cE '^ *(GPU|MIG) ' <<<"$gpus")
  [ "$seen" -ge @gpus@ ] || refuse_node "$seen GPUs are visible, the stage asks for @gpus@"
fi
)sh";

// What CUDA's and the driver's errors say when the GPU itself is gone or unusable, whatever ran on it.
constexpr std::array lost_gpu = {
    "no CUDA-capable device",       "fallen off the bus",         "GPU is lost",
    "uncorrectable ECC error",      "uncorrectable NVLink error", "busy or unavailable",
    "driver initialization failed", "system not yet initialized", "Unable to determine the device handle",
    "cudaErrorDevicesUnavailable",  "hardware stack error"};

bool is_expired(const BadNode& bad, const BadNodeSettings& settings, double now) {
  return now > bad.since + static_cast<double>(time_in_seconds(settings.expiry));
}

}  // namespace

std::string health_check(const ClusterSettings& settings, const ResourceSettings& resources) {
  if (!settings.bad_nodes.health_check) return "";
  const int on_this_node = settings.one_node ? resources.ranks : 1;  // at least
  std::string text = check_always;
  if (settings.memory != MemoryForm::none)
    text +=
        replaced(check_memory, "@kilobytes@",
                 std::to_string(memory_in_bytes(resources.memory) / 1024 * static_cast<std::uint64_t>(on_this_node) /
                                static_cast<std::uint64_t>(resources.ranks)));
  if (resources.gpus > 0) text += replaced(check_gpus, "@gpus@", std::to_string(resources.gpus * on_this_node));
  return replaced(std::move(text), "@exit@", std::to_string(unhealthy_node_exit));
}

std::optional<BadNode> judged(const Job& job, const AttemptOutcome& end, const BadNodeSettings& settings) {
  if (job.asked_to_stop) return std::nullopt;
  if (end.cause == "hung" && !end.node.empty()) return BadNode{.node = end.node, .stage = job.stage, .why = end.reason};
  if (job.node.empty()) return std::nullopt;
  if (job.cause == EndCause::unhealthy_node) return BadNode{.node = job.node, .stage = "", .why = end.reason};
  if (end.outcome != "failed" || (job.cause != EndCause::exited && job.cause != EndCause::signalled))
    return std::nullopt;
  if (std::any_of(lost_gpu.begin(), lost_gpu.end(),
                  [&](const char* words) { return end.reason.find(words) != std::string::npos; }))
    return BadNode{.node = job.node, .stage = "", .why = "an attempt lost its GPU: " + end.reason};
  if (job.seconds < 0 || job.seconds >= settings.within_s) return std::nullopt;
  return BadNode{.node = job.node,
                 .stage = job.stage,
                 .why = "an attempt failed after " + formatted(job.seconds, "%.0f s") + ": " + end.reason};
}

std::vector<BadNode> bad_nodes(const Workspace& workspace, const ClusterSettings& settings) {
  const auto path = workspace.bad_nodes_file(settings.name);
  std::error_code error;
  if (settings.bad_nodes.limit == 0 || !std::filesystem::exists(path, error)) return {};
  const auto unreadable = [&](const std::string& problem) {
    log_warning("slurm: " + path.string() +
                ": cannot be read, so that jobs keep away from no node; remove it: " + problem);
    return std::vector<BadNode>();
  };
  std::vector<BadNode> nodes;
  try {
    const double now = workspace.file_time_s();
    const Json json = read_json(path);
    for (const auto& entry : json.at("nodes")) {
      BadNode bad{
          .node = entry.at("node"), .stage = entry.at("stage"), .why = entry.at("why"), .since = entry.at("since")};
      if (!is_expired(bad, settings.bad_nodes, now)) nodes.push_back(std::move(bad));
    }
  } catch (const Json::exception& problem) {
    return unreadable(told(problem));
  } catch (const Error& problem) {
    return unreadable(problem.what());
  }
  return nodes;
}

void add_bad_node(const Workspace& workspace, const ClusterSettings& settings, BadNode bad) {
  auto nodes = bad_nodes(workspace, settings);
  std::erase_if(nodes, [&](const BadNode& known) { return known.node == bad.node && known.stage == bad.stage; });
  bad.since = workspace.file_time_s();
  bad.why = cut_text(bad.why, 300);
  nodes.push_back(std::move(bad));
  Json json = {{"nodes", Json::array()}};
  for (const auto& known : nodes)
    json["nodes"].push_back({{"node", known.node}, {"stage", known.stage}, {"why", known.why}, {"since", known.since}});
  write_file_atomically(workspace.bad_nodes_file(settings.name), json.dump(2) + "\n");
}

std::vector<std::string> nodes_to_avoid(const std::vector<BadNode>& bad, const std::string& stage, std::size_t most) {
  std::set<std::string> nodes;
  for (auto latest = bad.rbegin(); latest != bad.rend() && nodes.size() < most; ++latest)
    if (latest->stage.empty() || latest->stage == stage) nodes.insert(latest->node);
  return {nodes.begin(), nodes.end()};
}

std::string keeping_away(const BadNode& bad) {
  return (bad.stage.empty() ? "all stages keep" : "stage " + bad.stage + " keeps") + " away from " + bad.node;
}

std::vector<std::string> describe(const std::vector<BadNode>& bad, const BadNodeSettings& settings) {
  std::vector<std::string> lines;
  for (const auto& known : bad)
    lines.push_back(keeping_away(known) + " until " +
                    local_time(known.since + static_cast<double>(time_in_seconds(settings.expiry)), "%a %H:%M") + ": " +
                    known.why);
  return lines;
}

}  // namespace filo
