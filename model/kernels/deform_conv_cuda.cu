// One warp per row and tap: the warp's lanes share the channels, so that reads and writes are contiguous.
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <string>

#include "base/error.hpp"
#include "model/kernels/deform_conv_cuda.hpp"

namespace filo::kernels {
namespace {

constexpr int warp_size = 32;
constexpr int warps_per_block = 8;

template <typename T>
struct Tap {
  bool inside;
  std::int64_t offset_y, offset_x, mask;  // indices in the offset and mask tensors
  std::int64_t image;                     // element where the row's image starts
  std::int64_t pixels[4];                 // elements where the corners' channels start, in the image
  bool valid[4];
  T scale, fraction_y, fraction_x;
};

template <typename T>
__device__ Tap<T> locate(const DeformConvShape& shape, const DeformConvInput<T>& in, std::int64_t row,
                         std::int64_t tap) {
  const std::int64_t plane = shape.height * shape.width, taps = shape.kernel_height * shape.kernel_width;
  const std::int64_t image = row / plane, position = row % plane;
  Tap<T> at;
  at.image = image * plane * shape.channels;
  at.offset_y = (image * 2 * taps + 2 * tap) * plane + position;
  at.offset_x = at.offset_y + plane;
  at.mask = (image * taps + tap) * plane + position;
  at.scale = in.mask ? in.mask[at.mask] : T(1);
  const T y = T(position / shape.width + tap / shape.kernel_width - shape.kernel_height / 2) + in.offset[at.offset_y];
  const T x = T(position % shape.width + tap % shape.kernel_width - shape.kernel_width / 2) + in.offset[at.offset_x];
  // Written so that NaN and infinity fall outside.
  at.inside = y >= T(-1) && x >= T(-1) && y < T(shape.height) && x < T(shape.width);
  const T floor_y = at.inside ? floor(y) : T(0), floor_x = at.inside ? floor(x) : T(0);
  at.fraction_y = at.inside ? y - floor_y : T(0);
  at.fraction_x = at.inside ? x - floor_x : T(0);
  for (int c = 0; c < 4; ++c) {
    const std::int64_t cy = std::int64_t(floor_y) + c / 2, cx = std::int64_t(floor_x) + c % 2;
    at.valid[c] = at.inside && cy >= 0 && cy < shape.height && cx >= 0 && cx < shape.width;
    at.pixels[c] = at.valid[c] ? (cy * shape.width + cx) * shape.channels : 0;
  }
  return at;
}

template <typename T>
__device__ void corner_weights(const Tap<T>& at, T weights[4]) {
  const T ly = at.fraction_y, lx = at.fraction_x, hy = 1 - ly, hx = 1 - lx;
  weights[0] = at.valid[0] ? hy * hx * at.scale : T(0);
  weights[1] = at.valid[1] ? hy * lx * at.scale : T(0);
  weights[2] = at.valid[2] ? ly * hx * at.scale : T(0);
  weights[3] = at.valid[3] ? ly * lx * at.scale : T(0);
}

template <typename T>
__device__ void store_column(T* p, T value) {
  *p = value;
}

__device__ void store_column(Bfloat16* p, float value) { *p = __bfloat16_as_ushort(__float2bfloat16_rn(value)); }

template <typename T, typename Column>
__global__ void gather(DeformConvShape shape, DeformConvInput<T> in, std::int64_t first_row, std::int64_t first_tap,
                       std::int64_t tap_count, std::int64_t pairs, Column* columns) {
  const std::int64_t pair = std::int64_t(blockIdx.x) * warps_per_block + threadIdx.y;
  if (pair >= pairs) return;
  const Tap<T> at = locate(shape, in, first_row + pair / tap_count, first_tap + pair % tap_count);
  T weights[4];
  corner_weights(at, weights);
  const T* image = in.input + at.image;
  Column* out = columns + pair * shape.channels;
  for (std::int64_t i = threadIdx.x; i < shape.channels; i += warp_size) {
    T sum = 0;
    for (int c = 0; c < 4; ++c) {
      if (at.valid[c]) sum += weights[c] * image[at.pixels[c] + i];
    }
    store_column(out + i, sum);
  }
}

template <typename T>
__device__ T sum_over_warp(T value) {
  for (int step = warp_size / 2; step > 0; step /= 2) value += __shfl_xor_sync(0xffffffffu, value, step);
  return value;
}

template <typename T>
__global__ void scatter(DeformConvShape shape, DeformConvInput<T> in, std::int64_t first_row, std::int64_t first_tap,
                        std::int64_t tap_count, std::int64_t pairs, const T* columns,
                        DeformConvGradients<T> gradients) {
  const std::int64_t pair = std::int64_t(blockIdx.x) * warps_per_block + threadIdx.y;
  if (pair >= pairs) return;  // whole warps leave: the shuffles below see full warps only
  const Tap<T> at = locate(shape, in, first_row + pair / tap_count, first_tap + pair % tap_count);
  const T* image = in.input + at.image;
  const T* gradient = columns + pair * shape.channels;
  T weights[4];
  corner_weights(at, weights);
  T value[4] = {0, 0, 0, 0};  // <gradient, corner>; zero outside
  for (std::int64_t i = threadIdx.x; i < shape.channels; i += warp_size) {
    const T g = gradient[i];
    for (int c = 0; c < 4; ++c) {
      if (!at.valid[c]) continue;
      value[c] += g * image[at.pixels[c] + i];
      if (gradients.input) atomicAdd(gradients.input + at.image + at.pixels[c] + i, weights[c] * g);
    }
  }
  for (int c = 0; c < 4; ++c) value[c] = sum_over_warp(value[c]);
  if (threadIdx.x != 0) return;
  const T ly = at.fraction_y, lx = at.fraction_x, hy = 1 - ly, hx = 1 - lx;
  if (gradients.offset) {
    gradients.offset[at.offset_y] = at.scale * (hx * (value[2] - value[0]) + lx * (value[3] - value[1]));
    gradients.offset[at.offset_x] = at.scale * (hy * (value[1] - value[0]) + ly * (value[3] - value[2]));
  }
  if (gradients.mask) {
    gradients.mask[at.mask] = hy * (hx * value[0] + lx * value[1]) + ly * (hx * value[2] + lx * value[3]);
  }
}

dim3 blocks_for(std::int64_t pairs) {
  return dim3(static_cast<unsigned>((pairs + warps_per_block - 1) / warps_per_block));
}

void check_launch(const char* kernel) {
  const cudaError_t status = cudaGetLastError();
  if (status != cudaSuccess)
    throw Error(std::string("deform_conv2d: CUDA kernel ") + kernel, cudaGetErrorString(status));
}

}  // namespace

bool deform_conv_cuda_available() { return true; }

template <typename T, typename Column>
void gather_columns_cuda(const DeformConvShape& shape, const DeformConvInput<T>& in, std::int64_t first_row,
                         std::int64_t row_count, std::int64_t first_tap, std::int64_t tap_count, Column* columns,
                         CudaStream stream) {
  const std::int64_t pairs = row_count * tap_count;
  gather<<<blocks_for(pairs), dim3(warp_size, warps_per_block), 0, static_cast<cudaStream_t>(stream)>>>(
      shape, in, first_row, first_tap, tap_count, pairs, columns);
  check_launch("gather");
}

template <typename T>
void scatter_columns_cuda(const DeformConvShape& shape, const DeformConvInput<T>& in, std::int64_t first_row,
                          std::int64_t row_count, std::int64_t first_tap, std::int64_t tap_count, const T* columns,
                          const DeformConvGradients<T>& gradients, CudaStream stream) {
  const std::int64_t pairs = row_count * tap_count;
  scatter<<<blocks_for(pairs), dim3(warp_size, warps_per_block), 0, static_cast<cudaStream_t>(stream)>>>(
      shape, in, first_row, first_tap, tap_count, pairs, columns, gradients);
  check_launch("scatter");
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
