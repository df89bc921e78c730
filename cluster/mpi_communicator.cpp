#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <exception>
#include <limits>
#include <type_traits>
#include <utility>

#include "cluster/communicator.hpp"
#include "cluster/mpi_call.hpp"

namespace filo {
namespace {

// Round to nearest, ties to even; not a number stays one.
std::uint16_t to_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if (std::isnan(value)) return static_cast<std::uint16_t>(bits >> 16 | 0x40);
  return static_cast<std::uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

float from_bf16(std::uint16_t value) { return std::bit_cast<float>(static_cast<std::uint32_t>(value) << 16); }

// How values of type T travel: as they are, or as bfloat16.
template <typename T>
struct Plain {
  using Sent = T;
  static T sent(T value) { return value; }
  static T value(T sent) { return sent; }
  static MPI_Datatype type() { return std::is_same_v<T, float> ? MPI_FLOAT : MPI_DOUBLE; }
};
struct AsBf16 {
  using Sent = std::uint16_t;
  static std::uint16_t sent(float value) { return to_bf16(value); }
  static float value(std::uint16_t sent) { return from_bf16(sent); }
  static MPI_Datatype type() { return MPI_UINT16_T; }
};

constexpr std::size_t max_count = static_cast<std::size_t>(std::numeric_limits<int>::max());

int to_count(std::size_t count, const char* operation) {
  if (count > max_count)
    throw Error(std::string("mpi: ") + operation,
                std::to_string(count) + " elements found, expected at most " + std::to_string(max_count));
  return static_cast<int>(count);
}

// A sum in rank order, in two exchanges of point-to-point messages:
//   1. rank r owns slice r: everybody sends it theirs, it adds them up in rank order;
//   2. it sends the sum back to everybody.
// Each rank sends and receives 2 (W - 1) / W of the data, as in the best all-reduce algorithms.
template <typename T, typename Form = Plain<T>>
class OrderedSum : public Request::State {
 public:
  OrderedSum(MPI_Comm comm, int rank, int world_size, int tag, std::span<T> data)
      : comm_(comm), rank_(rank), world_size_(world_size), tag_(tag), data_(data) {
    if (world_size_ == 1) {
      phase_ = Phase::done;
      return;
    }
    if constexpr (converts) {
      sent_.resize(data_.size());
      std::transform(data_.begin(), data_.end(), sent_.begin(), Form::sent);
    }
    received_.resize(slice(data_, rank_).size() * static_cast<std::size_t>(world_size_ - 1));
    for (int peer = 0; peer < world_size_; ++peer) {
      if (peer == rank_) continue;
      receive(part(peer), peer, tag_);
      send(slice(travelling(), peer), peer, tag_);
    }
  }

  bool test() override {
    while (phase_ != Phase::done) {
      int complete = 0;
      check_mpi(MPI_Testall(static_cast<int>(requests_.size()), requests_.data(), &complete, MPI_STATUSES_IGNORE),
                "all_reduce_sum");
      if (!complete) return false;
      next_phase();
    }
    return true;
  }

  void wait() override {
    while (phase_ != Phase::done) {
      check_mpi(MPI_Waitall(static_cast<int>(requests_.size()), requests_.data(), MPI_STATUSES_IGNORE),
                "all_reduce_sum");
      next_phase();
    }
  }

 private:
  enum class Phase { collecting, distributing, done };
  using Sent = typename Form::Sent;
  static constexpr bool converts = !std::is_same_v<T, Sent>;

  template <typename V>
  std::span<V> slice(std::span<V> all, int owner) const {
    const auto begin = [&](int r) {
      const std::size_t world = static_cast<std::size_t>(world_size_), index = static_cast<std::size_t>(r);
      return all.size() / world * index + std::min(index, all.size() % world);
    };
    return all.subspan(begin(owner), begin(owner + 1) - begin(owner));
  }
  // What is sent and received in place of the data, or the data.
  std::span<Sent> travelling() {
    if constexpr (converts)
      return sent_;
    else
      return data_;
  }
  // What `peer` sent of this rank's slice.
  std::span<Sent> part(int peer) {
    const std::size_t size = slice(data_, rank_).size();
    return std::span(received_).subspan(size * static_cast<std::size_t>(peer < rank_ ? peer : peer - 1), size);
  }
  void send(std::span<const Sent> values, int peer, int tag) {
    check_mpi(MPI_Isend(values.data(), to_count(values.size(), "all_reduce_sum"), Form::type(), peer, tag, comm_,
                        &requests_.emplace_back()),
              "MPI_Isend");
  }
  void receive(std::span<Sent> values, int peer, int tag) {
    check_mpi(MPI_Irecv(values.data(), to_count(values.size(), "all_reduce_sum"), Form::type(), peer, tag, comm_,
                        &requests_.emplace_back()),
              "MPI_Irecv");
  }

  void next_phase() {
    requests_.clear();
    if (phase_ == Phase::collecting) {
      add_in_rank_order();
      for (int peer = 0; peer < world_size_; ++peer) {
        if (peer == rank_) continue;
        receive(slice(travelling(), peer), peer, tag_ + 1);
        send(slice(travelling(), rank_), peer, tag_ + 1);
      }
      phase_ = Phase::distributing;
    } else {
      if constexpr (converts) std::transform(sent_.begin(), sent_.end(), data_.begin(), Form::value);
      phase_ = Phase::done;
    }
  }

  void add_in_rank_order() {
    const std::span<T> whole = slice(data_, rank_);
    const std::span<Sent> own = slice(travelling(), rank_);
    std::array<T, 1024> sums{};  // a block in the cache; `own` may be the memory of `whole`
    for (std::size_t first = 0; first < whole.size(); first += sums.size()) {
      const std::size_t count = std::min(sums.size(), whole.size() - first);
      for (int peer = 0; peer < world_size_; ++peer) {
        const std::span<const Sent> values = (peer == rank_ ? own : part(peer)).subspan(first, count);
        for (std::size_t i = 0; i < count; ++i)
          sums[i] = peer == 0 ? Form::value(values[i]) : sums[i] + Form::value(values[i]);
      }
      if constexpr (converts)
        std::transform(sums.begin(), sums.begin() + count, own.begin() + static_cast<std::ptrdiff_t>(first),
                       Form::sent);
      else
        std::copy_n(sums.begin(), count, whole.begin() + static_cast<std::ptrdiff_t>(first));
    }
    received_ = {};
  }

  MPI_Comm comm_;
  int rank_, world_size_, tag_;
  std::span<T> data_;
  std::vector<Sent> sent_;      // all of the data as it travels; empty: as it is
  std::vector<Sent> received_;  // slice `rank_` of the other ranks
  std::vector<MPI_Request> requests_;
  Phase phase_ = Phase::collecting;
};

class MpiCommunicator : public Communicator {
 public:
  MpiCommunicator() {
    int initialized = 0;
    MPI_Initialized(&initialized);
    if (!initialized) throw Error("mpi", "not started: make an MpiSession first");
    check_mpi(MPI_Comm_dup(MPI_COMM_WORLD, &comm_), "MPI_Comm_dup");
    check_mpi(MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
    check_mpi(MPI_Comm_rank(comm_, &rank_), "MPI_Comm_rank");
    check_mpi(MPI_Comm_size(comm_, &world_size_), "MPI_Comm_size");
  }
  MpiCommunicator(const MpiCommunicator&) = delete;
  MpiCommunicator& operator=(const MpiCommunicator&) = delete;
  ~MpiCommunicator() override {
    int finalized = 0;
    MPI_Finalized(&finalized);
    // Freeing is collective: a rank that leaves by an exception must not wait here for the others.
    if (!finalized && std::uncaught_exceptions() == 0) MPI_Comm_free(&comm_);
  }

  int rank() const override { return rank_; }
  int world_size() const override { return world_size_; }

  void all_reduce_sum(float* data, std::size_t count) override { start(std::span(data, count))->wait(); }
  void all_reduce_sum(double* data, std::size_t count) override { start(std::span(data, count))->wait(); }
  void all_reduce_max(std::int32_t* data, std::size_t count) override { max(data, count, MPI_INT32_T); }
  void all_reduce_max(std::int64_t* data, std::size_t count) override { max(data, count, MPI_INT64_T); }

  void broadcast(void* data, std::size_t bytes, int root) override {
    check_rank(root, "broadcast");
    auto* next = static_cast<unsigned char*>(data);
    while (bytes > 0) {
      const std::size_t block = std::min(bytes, max_count);
      check_mpi(MPI_Bcast(next, static_cast<int>(block), MPI_BYTE, root, comm_), "broadcast");
      next += block;
      bytes -= block;
    }
  }

  Request start_all_reduce_sum(std::span<float> data, Wire wire) override {
    if (wire == Wire::fp32) return Request(start(data));
    return Request(std::make_unique<OrderedSum<float, AsBf16>>(comm_, rank_, world_size_, next_tag(), data));
  }
  bool needs_progress() const override { return world_size_ > 1; }

  std::vector<std::string> gather_bytes(const std::string& bytes, int root) override {
    check_rank(root, "gather_bytes");
    // All ranks learn all sizes, so that all of them throw when one has too much.
    const auto size = static_cast<std::uint64_t>(bytes.size());
    std::vector<std::uint64_t> sizes(static_cast<std::size_t>(world_size_));
    check_mpi(MPI_Allgather(&size, 1, MPI_UINT64_T, sizes.data(), 1, MPI_UINT64_T, comm_), "gather_bytes");
    for (std::size_t peer = 0; peer < sizes.size(); ++peer)
      if (sizes[peer] > max_count)
        throw Error("mpi: gather_bytes", "rank " + std::to_string(peer) + " gives " + std::to_string(sizes[peer]) +
                                             " bytes, expected at most " + std::to_string(max_count));
    if (rank_ != root) {
      check_mpi(MPI_Send(bytes.data(), static_cast<int>(bytes.size()), MPI_BYTE, root, gather_tag, comm_),
                "gather_bytes");
      return {};
    }
    std::vector<std::string> gathered(sizes.size());
    for (std::size_t peer = 0; peer < sizes.size(); ++peer) {
      if (static_cast<int>(peer) == root) {
        gathered[peer] = bytes;
        continue;
      }
      gathered[peer].resize(sizes[peer]);
      check_mpi(MPI_Recv(gathered[peer].data(), static_cast<int>(sizes[peer]), MPI_BYTE, static_cast<int>(peer),
                         gather_tag, comm_, MPI_STATUS_IGNORE),
                "gather_bytes");
    }
    return gathered;
  }

  void barrier() override { check_mpi(MPI_Barrier(comm_), "barrier"); }

  std::shared_ptr<float> allocate(std::size_t count) override {
    return {new float[count](), std::default_delete<float[]>()};
  }
  void set_zero(float* data, std::size_t count) override { std::fill_n(data, count, 0.0f); }

 private:
  // MPI promises tags up to 32767 at least. Sums use 0 to 31999 in turn, two each.
  static constexpr int sum_tags = 16000;
  static constexpr int gather_tag = 32001;

  int next_tag() {
    const int tag = 2 * next_sum_;
    next_sum_ = (next_sum_ + 1) % sum_tags;
    return tag;
  }

  template <typename T>
  std::unique_ptr<OrderedSum<T>> start(std::span<T> data) {
    return std::make_unique<OrderedSum<T>>(comm_, rank_, world_size_, next_tag(), data);
  }

  template <typename T>
  void max(T* data, std::size_t count, MPI_Datatype type) {
    check_mpi(MPI_Allreduce(MPI_IN_PLACE, data, to_count(count, "all_reduce_max"), type, MPI_MAX, comm_),
              "all_reduce_max");
  }

  void check_rank(int root, const char* operation) const {
    if (root < 0 || root >= world_size_)
      throw Error(std::string("mpi: ") + operation,
                  "root found: " + std::to_string(root) + ", expected 0 to " + std::to_string(world_size_ - 1));
  }

  MPI_Comm comm_ = MPI_COMM_NULL;
  int rank_ = 0;
  int world_size_ = 1;
  int next_sum_ = 0;
};

}  // namespace

std::unique_ptr<Communicator> make_mpi_communicator() { return std::make_unique<MpiCommunicator>(); }

}  // namespace filo
