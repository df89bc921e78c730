// Reads the samples of finished feature caches (shards.hpp) with pread, into one piece of memory for each batch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "data/shards/shards.hpp"

namespace filo {

// Where batches are read to: `bytes` bytes, aligned to 64, of any content. Throws std::bad_alloc.
using Allocate = std::function<std::shared_ptr<std::byte>(std::size_t bytes)>;
std::shared_ptr<std::byte> allocate_aligned(std::size_t bytes);

// B samples, tensor by tensor, as they lie in the shards. Movable; what data() points to lives as long as memory().
class FeatureBlock {
 public:
  std::size_t size() const { return samples_.size(); }
  const std::vector<SampleInfo>& samples() const { return samples_; }

  // Null where it was not asked for. [B, C] float32; [B, P, C_v] of the layout's type, and [B, P] float32. Maps that
  // the layout has as the same are one.
  const float* global() const;
  const std::byte* map(bool vv, int layer) const;
  const float* scales(bool vv, int layer) const;  // null but for int8
  // To `to`, [S, S] of 0 and 1, of one sample.
  void mask(std::size_t sample, std::span<std::uint8_t> to) const;
  bool has_mask() const;

  const std::shared_ptr<std::byte>& memory() const { return memory_; }

 private:
  friend class ShardReader;
  const std::byte* find(const std::string& tensor) const;
  std::shared_ptr<const struct BlockShape> shape_;
  std::vector<SampleInfo> samples_;
  std::shared_ptr<std::byte> memory_;
};

// Thread-safe but for its construction. However many shards there are, few of them are open at a time.
class ShardReader {
 public:
  enum class Verify {
    never,
    first_read,  // each chunk's CRC-32 the first time this reader reads it
    always,
  };

  // Opens FOLDER/manifest.json and looks at all its shards' sizes. Throws Error naming file and what is wrong: no
  // manifest (not finished), a shard missing or of another size. `expected_key`: the key must be this.
  explicit ShardReader(const std::filesystem::path& folder, Verify verify = Verify::first_read,
                       const std::optional<Json>& expected_key = std::nullopt);
  // The samples of several folders, one after another, as one: they must have one layout. key() is the first one's; an
  // image that two folders have is found in the first.
  explicit ShardReader(const std::vector<std::filesystem::path>& folders, Verify verify = Verify::first_read);
  ~ShardReader();
  ShardReader(const ShardReader&) = delete;
  ShardReader& operator=(const ShardReader&) = delete;

  std::size_t size() const;
  const FeatureLayout& layout() const;
  const Json& key() const;
  const SampleInfo& info(std::size_t index) const;  // no disk access
  std::optional<std::size_t> find(const std::string& image) const;

  // Throws Error "shard FILE: DATASET: row R, image 'NAME': …" when the bytes are not there, ShardDamage when they fail
  // their checksum twice.
  FeatureBlock read(std::span<const std::size_t> indices, Parts parts = {}) const;
  FeatureBlock read(std::size_t index, Parts parts = {}) const { return read(std::span(&index, 1), parts); }

  // The same in two steps, for several threads: a block without content, and one sample of it.
  FeatureBlock make_block(std::span<const std::size_t> indices, Parts parts, const Allocate& allocate) const;
  void fill(FeatureBlock& block, std::size_t place, std::size_t index) const;

  std::uint64_t bytes_per_sample(Parts parts = {}) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace filo
