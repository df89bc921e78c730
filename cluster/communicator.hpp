// Collective operations between the ranks of a job, over raw pointers. Two implementations: MpiCommunicator (host
// memory) and NcclCommunicator (device memory, where the build has CUDA).
//
// Every operation is collective: all ranks call it, in the same order, with the same count; otherwise ranks wait
// forever. Not thread-safe: one call at a time (GradientBuckets has a lock for its own). Failures throw Error naming
// the component, the operation and what MPI or NCCL said; afterwards the communicator is of no use and the job should
// end.
//
// Determinism: MpiCommunicator's sums are added in rank order, ((x0 + x1) + x2) + ..., for every element, whatever the
// count, the bucket or the host a rank runs on: equal inputs on equally many ranks give equal bits, and all ranks get
// the same bits. (MPI itself promises neither for MPI_Allreduce: it only "strongly recommends" the former, and
// implementations pick trees by message size and host layout.) NCCL picks ring or tree by topology and size: equal bits
// on the same machine and rank count, not across machines.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace filo {

// A sum under way. Movable. Destroying it unfinished waits for it (and swallows errors): the buffer is then free again.
class Request {
 public:
  struct State {  // what an implementation keeps
    virtual ~State() = default;
    virtual bool test() = 0;  // makes progress; true once done
    virtual void wait() = 0;
  };

  Request() = default;
  explicit Request(std::unique_ptr<State> state) : state_(std::move(state)) {}
  Request(Request&&) = default;
  Request& operator=(Request&& other) noexcept;
  ~Request();

  // MPI moves data only inside its calls: test() now and then lets a sum proceed behind other work.
  bool test();
  // Returns when the buffer holds the sum. Idempotent.
  void wait();

 private:
  std::unique_ptr<State> state_;
};

// In what numbers a sum travels between ranks. bf16: each rank's values are rounded to bfloat16 (to nearest, ties to
// even), added in float32, and the sum is rounded again: half the bytes, 8 bits of mantissa. All ranks get the same
// bits either way. (NCCL adds in its own way: it may round at every hop.)
enum class Wire { fp32, bf16 };

class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int world_size() const = 0;

  // In place; `data` is host memory for MPI, device memory for NCCL, as in all of these but gather_bytes.
  virtual void all_reduce_sum(float* data, std::size_t count) = 0;
  virtual void all_reduce_sum(double* data, std::size_t count) = 0;
  virtual void all_reduce_max(std::int32_t* data, std::size_t count) = 0;
  virtual void all_reduce_max(std::int64_t* data, std::size_t count) = 0;
  virtual void broadcast(void* data, std::size_t bytes, int root) = 0;

  // The sum without waiting; `data` belongs to the communicator until the request is done. Several may be under way;
  // all ranks start them in the same order. Requests end before the communicator does.
  virtual Request start_all_reduce_sum(std::span<float> data, Wire wire = Wire::fp32) = 0;
  // Whether sums under way stand still between calls, so that somebody has to call Request::test() now and then.
  virtual bool needs_progress() const = 0;

  // Every rank's `bytes`, by rank, on `root`; an empty vector elsewhere. Any length per rank, up to 2 GiB each. Host
  // memory.
  virtual std::vector<std::string> gather_bytes(const std::string& bytes, int root = 0) = 0;
  virtual void barrier() = 0;

  // Buffers of the kind of memory that this communicator sums. NCCL: ordered on the compute stream.
  virtual std::shared_ptr<float> allocate(std::size_t count) = 0;  // zeros
  virtual void set_zero(float* data, std::size_t count) = 0;
};

// Over MPI_COMM_WORLD (a duplicate of it). Needs a living MpiSession.
std::unique_ptr<Communicator> make_mpi_communicator();

struct NcclOptions {
  int device = 0;                  // CUDA device of this rank
  void* compute_stream = nullptr;  // the cudaStream_t that makes and uses the data; nullptr: the default stream
  double timeout_s = 0;            // a sum that waits longer for other ranks throws Error; 0: none does
};

// Over all ranks of `host`, which hands out NCCL's unique id and serves gather_bytes and barrier; `host` must outlive
// it. Throws Error "built without CUDA" where the build has none.
std::unique_ptr<Communicator> make_nccl_communicator(Communicator& host, const NcclOptions& options);

// Whether make_nccl_communicator can work in this build.
bool built_with_nccl();

}  // namespace filo
