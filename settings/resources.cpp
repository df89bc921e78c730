#include "settings/resources.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "settings/schema.hpp"

namespace filo {
namespace {

bool is_memory(const std::string& text) {
  const auto digits = text.find_first_not_of("0123456789");
  return digits != 0 && digits < 10 && digits + 1 == text.size() && text.find_last_of("KMGT") == digits;
}

bool is_time(const std::string& text) {
  unsigned hours = 0, minutes = 0, seconds = 0;
  int used = 0;
  const bool digits = text.find_first_not_of("0123456789:") == std::string::npos && text.size() <= 10;
  return digits && std::sscanf(text.c_str(), "%u:%2u:%2u%n", &hours, &minutes, &seconds, &used) == 3 &&
         static_cast<std::size_t>(used) == text.size() && minutes < 60 && seconds < 60;
}

constexpr const char* memory_form = "digits and one of K, M, G, T, as in 4G";

}  // namespace

std::string memory_fault(const std::string& text) {
  return is_memory(text) ? "" : "found '" + text + "', expected " + memory_form;
}

Schema memory_schema(const std::string& fallback) {
  return Schema::text(fallback).where([](const Json& text) { return is_memory(text.get<std::string>()); }, memory_form);
}

Schema time_schema(const std::string& fallback) {
  return Schema::text(fallback).where([](const Json& text) { return is_time(text.get<std::string>()); },
                                      "hours:minutes:seconds in quotes, as in \"01:00:00\"");
}

Schema resource_schema() {
  const ResourceSettings fallback;
  return Schema::record({
      {"ranks", Schema::integer(fallback.ranks, 1, 65536)},
      {"threads", Schema::integer(fallback.threads, 1, 4096)},
      {"gpus", Schema::integer(fallback.gpus, 0, 64)},
      {"memory", memory_schema(fallback.memory)},
      {"time", time_schema(fallback.time)},
      {"hang_timeout_s", Schema::integer(fallback.hang_timeout_s, 0, 1'000'000)
                             .where([](const Json& seconds) { return seconds == 0 || seconds >= 2; }, "0 or from 2")},
      {"prefetch_memory", memory_schema(fallback.prefetch_memory)},
      {"shard_size", memory_schema(fallback.shard_size)},
      {"local_copy", Schema::text(fallback.local_copy)},
      {"attempts", Schema::record({{"failures", Schema::integer(fallback.attempts.failures, 1)},
                                   {"timeouts", Schema::integer(fallback.attempts.timeouts, 1)},
                                   {"out_of_memory", Schema::integer(fallback.attempts.out_of_memory, 1)},
                                   {"requeues", Schema::integer(fallback.attempts.requeues, 1)}})},
  });
}

ResourceSettings resource_settings_of(const Json& json) {
  const Json& attempts = json.at("attempts");
  return {.ranks = json.at("ranks"),
          .threads = json.at("threads"),
          .gpus = json.at("gpus"),
          .memory = json.at("memory"),
          .time = json.at("time"),
          .hang_timeout_s = json.at("hang_timeout_s"),
          .prefetch_memory = json.at("prefetch_memory"),
          .shard_size = json.at("shard_size"),
          .local_copy = json.at("local_copy"),
          .attempts = {.failures = attempts.at("failures"),
                       .timeouts = attempts.at("timeouts"),
                       .out_of_memory = attempts.at("out_of_memory"),
                       .requeues = attempts.at("requeues")}};
}

Json to_json(const ResourceSettings& settings) {
  Json json = {{"ranks", settings.ranks},   {"threads", settings.threads}, {"gpus", settings.gpus},
               {"memory", settings.memory}, {"time", settings.time},       {"attempts", to_json(settings.attempts)}};
  const ResourceSettings usual;
  if (settings.hang_timeout_s != usual.hang_timeout_s) json["hang_timeout_s"] = settings.hang_timeout_s;
  if (settings.prefetch_memory != usual.prefetch_memory) json["prefetch_memory"] = settings.prefetch_memory;
  if (settings.shard_size != usual.shard_size) json["shard_size"] = settings.shard_size;
  if (!settings.local_copy.empty()) json["local_copy"] = settings.local_copy;
  return json;
}

Json to_json(const AttemptLimits& limits) {
  return {{"failures", limits.failures},
          {"timeouts", limits.timeouts},
          {"out_of_memory", limits.out_of_memory},
          {"requeues", limits.requeues}};
}

ResourceSettings resource_settings_from_json(const Json& json, const std::string& where) {
  return resource_settings_of(resolve(resource_schema(), source_value(json), "resources", where));
}

std::uint64_t memory_in_bytes(const std::string& text) {
  const std::string units = "KMGT";
  std::uint64_t bytes = std::stoull(text);
  for (std::size_t i = 0; i <= units.find(text.back()); ++i) bytes *= 1024;
  return bytes;
}

std::int64_t time_in_seconds(const std::string& text) {
  long hours = 0;
  long minutes = 0;
  long seconds = 0;
  std::sscanf(text.c_str(), "%ld:%ld:%ld", &hours, &minutes, &seconds);
  return hours * 3600 + minutes * 60 + seconds;
}

std::string memory_text(std::uint64_t bytes) {
  const std::uint64_t mebibytes = (bytes + (1u << 20) - 1) >> 20;
  if (mebibytes % 1024 == 0) return std::to_string(mebibytes / 1024) + "G";
  return std::to_string(mebibytes) + "M";
}

std::string time_text(std::int64_t seconds) {
  const std::int64_t capped = std::min<std::int64_t>(seconds, 9999LL * 3600 + 59LL * 60 + 59);
  char text[32];
  std::snprintf(text, sizeof text, "%02d:%02d:%02d", static_cast<int>(capped / 3600),
                static_cast<int>(capped / 60 % 60), static_cast<int>(capped % 60));
  return text;
}

ResourceSettings grown(ResourceSettings resources, int timeouts, int out_of_memory) {
  if (timeouts > 0) resources.time = time_text(time_in_seconds(resources.time) << std::min(timeouts, 20));
  if (out_of_memory > 0)
    resources.memory = memory_text(static_cast<std::uint64_t>(static_cast<double>(memory_in_bytes(resources.memory)) *
                                                              std::pow(1.5, std::min(out_of_memory, 20))));
  return resources;
}

}  // namespace filo
