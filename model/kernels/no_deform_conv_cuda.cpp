#include "base/error.hpp"
#include "model/kernels/deform_conv_cuda.hpp"

namespace filo::kernels {
namespace {

[[noreturn]] void refuse() {
  throw Error("deform_conv2d: input",
              "found a CUDA tensor, expected a CPU one: this build has no CUDA kernels (nvcc was not found)");
}

}  // namespace

bool deform_conv_cuda_available() { return false; }

template <typename T, typename Column>
void gather_columns_cuda(const DeformConvShape&, const DeformConvInput<T>&, std::int64_t, std::int64_t, std::int64_t,
                         std::int64_t, Column*, CudaStream) {
  refuse();
}

template <typename T>
void scatter_columns_cuda(const DeformConvShape&, const DeformConvInput<T>&, std::int64_t, std::int64_t, std::int64_t,
                          std::int64_t, const T*, const DeformConvGradients<T>&, CudaStream) {
  refuse();
}

#define FILO_INSTANTIATE_GATHER(T, Column)                                                                      \
  template void gather_columns_cuda<T, Column>(const DeformConvShape&, const DeformConvInput<T>&, std::int64_t, \
                                               std::int64_t, std::int64_t, std::int64_t, Column*, CudaStream);
#define FILO_INSTANTIATE_SCATTER(T)                                                                                    \
  template void scatter_columns_cuda<T>(const DeformConvShape&, const DeformConvInput<T>&, std::int64_t, std::int64_t, \
                                        std::int64_t, std::int64_t, const T*, const DeformConvGradients<T>&,           \
                                        CudaStream);
FILO_INSTANTIATE_GATHER(float, float)
FILO_INSTANTIATE_GATHER(float, Bfloat16)
FILO_INSTANTIATE_GATHER(double, double)
FILO_INSTANTIATE_SCATTER(float)
FILO_INSTANTIATE_SCATTER(double)

}  // namespace filo::kernels
