#include <cuda_runtime.h>
#include <nccl.h>

#include <algorithm>
#include <chrono>
#include <exception>
#include <thread>
#include <utility>

#include "base/error.hpp"
#include "base/text.hpp"
#include "cluster/bf16_cuda.hpp"
#include "cluster/communicator.hpp"

namespace filo {
namespace {

void check_cuda(cudaError_t code, const char* operation) {
  if (code != cudaSuccess)
    throw Error(std::string("cuda: ") + operation,
                std::string(cudaGetErrorName(code)) + ": " + cudaGetErrorString(code));
}

void check_nccl(ncclResult_t code, const char* operation, ncclComm_t comm = nullptr) {
  if (code == ncclSuccess || code == ncclInProgress) return;
  throw Error(std::string("nccl: ") + operation,
              std::string(ncclGetErrorString(code)) + ": " + ncclGetLastError(comm) + " (NCCL_DEBUG=INFO tells more)");
}

class Stream {
 public:
  Stream() { check_cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags"); }
  ~Stream() { cudaStreamDestroy(stream_); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  cudaStream_t get() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

class Event {
 public:
  Event() { check_cuda(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "cudaEventCreateWithFlags"); }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  cudaEvent_t get() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

class NcclComm {
 public:
  NcclComm(int world_size, const ncclUniqueId& id, int rank, double timeout_s) : timeout_s_(timeout_s) {
    check_nccl(ncclCommInitRank(&comm_, world_size, id, rank), "ncclCommInitRank");
  }
  // Destroying is collective in effect: a rank that leaves by an exception must not wait for the others.
  ~NcclComm() {
    if (std::uncaught_exceptions() == 0)
      ncclCommDestroy(comm_);
    else
      ncclCommAbort(comm_);
  }
  NcclComm(const NcclComm&) = delete;
  NcclComm& operator=(const NcclComm&) = delete;
  ncclComm_t get() const { return comm_; }
  double timeout_s() const { return timeout_s_; }

  void check_asynchronous(const char* operation) const {
    ncclResult_t result = ncclSuccess;
    check_nccl(ncclCommGetAsyncError(comm_, &result), "ncclCommGetAsyncError", comm_);
    check_nccl(result, operation, comm_);
  }

 private:
  ncclComm_t comm_ = nullptr;
  double timeout_s_;
};

class NcclSum : public Request::State {
 public:
  NcclSum(const NcclComm& comm, cudaStream_t compute, cudaStream_t own) : comm_(comm), compute_(compute) {
    check_cuda(cudaEventRecord(done_.get(), own), "cudaEventRecord");
  }
  bool test() override {
    comm_.check_asynchronous("all_reduce_sum");
    const cudaError_t state = cudaEventQuery(done_.get());
    if (state == cudaErrorNotReady) return false;
    check_cuda(state, "all_reduce_sum");
    return true;
  }
  // Here and not on the stream: a peer or network that fails would keep this rank at its next copy to the host, for
  // ever. The error leads to ~NcclComm, which aborts what NCCL has under way.
  void wait() override {
    const auto start = std::chrono::steady_clock::now();
    while (!test()) {
      const std::chrono::duration<double> waited = std::chrono::steady_clock::now() - start;
      if (comm_.timeout_s() > 0 && waited.count() > comm_.timeout_s())
        throw Error("nccl: all_reduce_sum",
                    formatted(waited.count(), "found no answer of the other ranks in %.0f s, ") +
                        "expected their sums (resources.hang_timeout_s)");
      std::this_thread::sleep_for(std::chrono::microseconds(20));
    }
    check_cuda(cudaStreamWaitEvent(compute_, done_.get(), 0), "cudaStreamWaitEvent");
  }

 private:
  const NcclComm& comm_;
  cudaStream_t compute_;
  Event done_;
};

ncclUniqueId shared_id(Communicator& host) {
  ncclUniqueId id{};
  if (host.rank() == 0) check_nccl(ncclGetUniqueId(&id), "ncclGetUniqueId");
  host.broadcast(&id, sizeof id, 0);
  return id;
}

// Before anything of NCCL: a wrong device number is the likeliest mistake.
int use_device(int device) {
  int count = 0;
  check_cuda(cudaGetDeviceCount(&count), "cudaGetDeviceCount");
  if (device < 0 || device >= count)
    throw Error("nccl", "device found: " + std::to_string(device) + ", expected 0 to " + std::to_string(count - 1) +
                            " (one GPU per rank of a machine)");
  check_cuda(cudaSetDevice(device), "cudaSetDevice");
  return device;
}

class NcclCommunicator : public Communicator {
 public:
  NcclCommunicator(Communicator& host, const NcclOptions& options)
      : host_(host),
        device_(use_device(options.device)),
        compute_(static_cast<cudaStream_t>(options.compute_stream)),
        comm_(host.world_size(), shared_id(host), host.rank(), options.timeout_s) {}

  int rank() const override { return host_.rank(); }
  int world_size() const override { return host_.world_size(); }

  void all_reduce_sum(float* data, std::size_t count) override { reduce(data, count, ncclFloat, ncclSum).wait(); }
  void all_reduce_sum(double* data, std::size_t count) override { reduce(data, count, ncclDouble, ncclSum).wait(); }
  void all_reduce_max(std::int32_t* data, std::size_t count) override {
    reduce(data, count, ncclInt32, ncclMax).wait();
  }
  void all_reduce_max(std::int64_t* data, std::size_t count) override {
    reduce(data, count, ncclInt64, ncclMax).wait();
  }

  void broadcast(void* data, std::size_t bytes, int root) override {
    on_own_stream([&] { return ncclBroadcast(data, data, bytes, ncclUint8, root, comm_.get(), own_.get()); },
                  "broadcast")
        .wait();
  }

  Request start_all_reduce_sum(std::span<float> data, Wire wire) override {
    if (wire == Wire::fp32) return reduce(data.data(), data.size(), ncclFloat, ncclSum);
    const std::size_t bytes = std::max<std::size_t>(data.size(), 1) * sizeof(std::uint16_t);
    return on_own_stream(
        [&] {  // memory of the stream's own pool: kept for the next sum, free once this one has run
          void* sent = nullptr;
          check_cuda(cudaMallocAsync(&sent, bytes, own_.get()), "cudaMallocAsync");
          float_to_bf16(data.data(), sent, data.size(), own_.get());
          const ncclResult_t result =
              ncclAllReduce(sent, sent, data.size(), ncclBfloat16, ncclSum, comm_.get(), own_.get());
          bf16_to_float(sent, data.data(), data.size(), own_.get());
          check_cuda(cudaGetLastError(), "all_reduce_sum of bf16");
          check_cuda(cudaFreeAsync(sent, own_.get()), "cudaFreeAsync");
          return result;
        },
        "all_reduce_sum");
  }
  bool needs_progress() const override { return false; }

  std::vector<std::string> gather_bytes(const std::string& bytes, int root) override {
    return host_.gather_bytes(bytes, root);
  }
  void barrier() override { host_.barrier(); }

  std::shared_ptr<float> allocate(std::size_t count) override {
    select_device();
    void* memory = nullptr;
    check_cuda(cudaMalloc(&memory, std::max<std::size_t>(count, 1) * sizeof(float)), "cudaMalloc");
    std::shared_ptr<float> buffer(static_cast<float*>(memory), [](float* pointer) { cudaFree(pointer); });
    set_zero(buffer.get(), count);
    return buffer;
  }
  void set_zero(float* data, std::size_t count) override {
    select_device();
    check_cuda(cudaMemsetAsync(data, 0, count * sizeof(float), compute_), "set_zero");
  }

 private:
  // Autograd calls from threads of its own, each with a current device of its own.
  void select_device() { check_cuda(cudaSetDevice(device_), "cudaSetDevice"); }

  Request reduce(void* data, std::size_t count, ncclDataType_t type, ncclRedOp_t operation) {
    return on_own_stream([&] { return ncclAllReduce(data, data, count, type, operation, comm_.get(), own_.get()); },
                         "all_reduce");
  }

  // The own stream waits for what the compute stream has been given so far, then does `enqueue`.
  template <typename Enqueue>
  Request on_own_stream(const Enqueue& enqueue, const char* operation) {
    select_device();
    check_cuda(cudaEventRecord(inputs_ready_.get(), compute_), "cudaEventRecord");
    check_cuda(cudaStreamWaitEvent(own_.get(), inputs_ready_.get(), 0), "cudaStreamWaitEvent");
    check_nccl(enqueue(), operation, comm_.get());
    return Request(std::make_unique<NcclSum>(comm_, compute_, own_.get()));
  }

  Communicator& host_;
  int device_;
  cudaStream_t compute_;
  Stream own_;
  Event inputs_ready_;
  NcclComm comm_;
};

}  // namespace

std::unique_ptr<Communicator> make_nccl_communicator(Communicator& host, const NcclOptions& options) {
  return std::make_unique<NcclCommunicator>(host, options);
}

bool built_with_nccl() { return true; }

}  // namespace filo
