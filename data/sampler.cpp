#include "data/sampler.hpp"

#include <algorithm>
#include <map>
#include <numeric>
#include <string>
#include <utility>

#include "base/error.hpp"
#include "base/random.hpp"

namespace filo {

namespace {

void shuffle(std::vector<std::size_t>& values, Random& random) {  // Fisher-Yates
  for (std::size_t i = values.size(); i-- > 1;) std::swap(values[i], values[random.below(i + 1)]);
}

// By number; the samples of each in the order of `samples`.
std::map<std::size_t, std::vector<std::size_t>> split(const std::vector<std::size_t>& samples,
                                                      const std::vector<std::size_t>& numbers) {
  std::map<std::size_t, std::vector<std::size_t>> parts;
  for (const std::size_t sample : samples) parts[numbers[sample]].push_back(sample);
  return parts;
}

// As many samples, the same number of each kind; which kinds have one more is drawn.
std::vector<std::size_t> balanced(const std::vector<std::size_t>& samples, const std::vector<std::size_t>& kinds,
                                  Random& random) {
  auto parts = split(samples, kinds);
  std::vector<std::size_t> names;
  for (const auto& [kind, of_kind] : parts) names.push_back(kind);
  shuffle(names, random);
  std::vector<std::size_t> taken;
  for (std::size_t i = 0; i < names.size(); ++i) {
    auto& of_kind = parts[names[i]];
    const std::size_t wanted = samples.size() / names.size() + (i < samples.size() % names.size() ? 1 : 0);
    for (std::size_t j = 0; j < wanted; ++j) {
      if (j % of_kind.size() == 0) shuffle(of_kind, random);
      taken.push_back(of_kind[j % of_kind.size()]);
    }
  }
  shuffle(taken, random);
  return taken;
}

// Whole batches of one group in a random order, then what is left over, group after group.
std::vector<std::size_t> grouped(const std::vector<std::size_t>& samples, const std::vector<std::size_t>& groups,
                                 std::size_t batch, Random& random) {
  const auto parts = split(samples, groups);
  std::vector<std::size_t> begins, rest, order, all;  // of whole batches in `all`
  for (const auto& [group, of_group] : parts) {
    const std::size_t whole = of_group.size() / batch * batch;
    for (std::size_t i = 0; i < whole; i += batch) begins.push_back(all.size() + i);
    all.insert(all.end(), of_group.begin(), of_group.begin() + static_cast<std::ptrdiff_t>(whole));
    rest.insert(rest.end(), of_group.begin() + static_cast<std::ptrdiff_t>(whole), of_group.end());
  }
  shuffle(begins, random);
  for (const std::size_t begin : begins)
    order.insert(order.end(), all.begin() + static_cast<std::ptrdiff_t>(begin),
                 all.begin() + static_cast<std::ptrdiff_t>(begin + batch));
  order.insert(order.end(), rest.begin(), rest.end());
  return order;
}

void substitute(std::vector<std::size_t>& order, const Samples& samples, Random random) {
  for (std::size_t& sample : order) {
    const auto& substitutes = samples.substitutes[sample];
    const bool wanted = random.uniform() < samples.substitution;  // drawn for each place, whatever may stand there
    if (wanted && !substitutes.empty()) sample = substitutes[random.below(substitutes.size())];
  }
}

}  // namespace

std::vector<std::vector<std::size_t>> pieces_of(const std::vector<std::size_t>& values, std::size_t most) {
  std::vector<std::vector<std::size_t>> pieces;
  for (std::size_t first = 0; first < values.size(); first += most)
    pieces.emplace_back(values.begin() + static_cast<std::ptrdiff_t>(first),
                        values.begin() + static_cast<std::ptrdiff_t>(std::min(first + most, values.size())));
  return pieces;
}

EpochSampler::EpochSampler(Samples samples, std::size_t global_batch, int rank, int world_size, std::uint64_t seed)
    : samples_(std::move(samples)), global_batch_(global_batch), rank_(rank), world_size_(world_size), seed_(seed) {
  if (samples_.count == 0) throw Error("sampler", "no samples found, expected at least 1");
  if (global_batch == 0) throw Error("sampler", "batch size found: 0, expected at least 1");
  for (const auto* numbers : {&samples_.kinds, &samples_.groups})
    if (!numbers->empty() && numbers->size() != samples_.count)
      throw Error("sampler", "kinds or groups of " + std::to_string(numbers->size()) + " samples found, expected " +
                                 std::to_string(samples_.count));
  if (!samples_.substitutes.empty() && samples_.substitutes.size() != samples_.count)
    throw Error("sampler", "substitutes of " + std::to_string(samples_.substitutes.size()) +
                               " samples found, expected " + std::to_string(samples_.count));
  if (rank < 0 || rank >= world_size)
    throw Error("sampler", "rank found: " + std::to_string(rank) + ", expected 0 to " + std::to_string(world_size - 1));
}

const std::vector<std::size_t>& EpochSampler::order(std::int64_t epoch) const {
  if (epoch < 0) throw Error("sampler", "epoch found: " + std::to_string(epoch) + ", expected 0 or more");
  if (epoch != cached_epoch_) {
    cached_.resize(samples_.count);
    std::iota(cached_.begin(), cached_.end(), std::size_t{0});
    const auto number = static_cast<std::uint64_t>(epoch);
    Random random(seed_, "sampler", number);
    if (samples_.kinds.empty())
      shuffle(cached_, random);
    else
      cached_ = balanced(cached_, samples_.kinds, random);
    if (!samples_.groups.empty()) cached_ = grouped(cached_, samples_.groups, global_batch_, random);
    if (!samples_.substitutes.empty()) substitute(cached_, samples_, Random(seed_, "substitutes", number));
    cached_epoch_ = epoch;
  }
  return cached_;
}

std::vector<std::size_t> EpochSampler::global_batch(std::int64_t epoch, std::size_t step) const {
  if (step >= steps_per_epoch())
    throw Error("sampler",
                "step found: " + std::to_string(step) + ", expected 0 to " + std::to_string(steps_per_epoch() - 1));
  const auto& all = order(epoch);
  const std::size_t begin = step * global_batch_, end = std::min(begin + global_batch_, all.size());
  return {all.begin() + static_cast<std::ptrdiff_t>(begin), all.begin() + static_cast<std::ptrdiff_t>(end)};
}

std::vector<std::size_t> EpochSampler::local_batch(std::int64_t epoch, std::size_t step) const {
  const auto batch = global_batch(epoch, step);
  const std::size_t world = static_cast<std::size_t>(world_size_);
  const auto begin_of = [&](std::size_t rank) {
    return static_cast<std::ptrdiff_t>(batch.size() / world * rank + std::min(rank, batch.size() % world));
  };
  const std::size_t rank = static_cast<std::size_t>(rank_);
  return {batch.begin() + begin_of(rank), batch.begin() + begin_of(rank + 1)};
}

}  // namespace filo
