# Everything the project links that it did not write: Debian packages, and LibTorch from its wheel.
include(Libraries)
find_package(CLI11 REQUIRED)
find_package(Boost REQUIRED)
find_package(ICU REQUIRED COMPONENTS uc)
find_package(MPI REQUIRED COMPONENTS C)
add_library(filo::mpi ALIAS MPI::MPI_C)

# LibTorch: the wheel that tools/setup put into .deps/venv. find_package(Torch) wants a CUDA toolkit even for CPU-only use;
# a CPU program needs libtorch_cpu and libc10 alone (docs/decisions/002-libtorch-from-the-wheel.md).
file(GLOB filo_site_packages ${CMAKE_SOURCE_DIR}/.deps/venv/lib/python3*/site-packages)
set(FILO_SITE_PACKAGES "${filo_site_packages}" CACHE PATH "The site-packages folder that holds torch/ and nvidia/")
set(torch_root ${FILO_SITE_PACKAGES}/torch)
if(NOT EXISTS ${torch_root}/lib/libtorch_cpu.so)
  message(FATAL_ERROR "LibTorch not found in '${torch_root}': run tools/setup first (make build does).")
endif()
file(GLOB torch_gomp ${torch_root}/lib/libgomp*.so* ${FILO_SITE_PACKAGES}/torch.libs/libgomp*.so*)
set(torch_rpath ${torch_root}/lib ${FILO_SITE_PACKAGES}/torch.libs ${FILO_SITE_PACKAGES}/nvidia/cu13/lib)
set(FILO_TORCH_RPATH "" CACHE STRING "Where an installed filo-worker looks for LibTorch's libraries (default: where it is now)")
if(NOT FILO_TORCH_RPATH)
  set(FILO_TORCH_RPATH ${torch_rpath})
endif()

add_library(filo_torch INTERFACE)
target_include_directories(filo_torch SYSTEM INTERFACE ${torch_root}/include ${torch_root}/include/torch/csrc/api/include)
target_compile_definitions(filo_torch INTERFACE _GLIBCXX_USE_CXX11_ABI=1)
# -fopenmp for at::parallel_for's inline part; linked to LibTorch's own libgomp, so that one runtime owns the threads.
target_compile_options(filo_torch INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-fopenmp>)
target_link_libraries(filo_torch INTERFACE ${torch_root}/lib/libtorch_cpu.so ${torch_root}/lib/libc10.so ${torch_gomp})
list(JOIN torch_rpath ":" torch_rpath_joined)
target_link_options(filo_torch INTERFACE "-Wl,--disable-new-dtags" "-Wl,-rpath-link,${torch_rpath_joined}" "-Wl,--allow-shlib-undefined")
add_library(filo::torch ALIAS filo_torch)

file(WRITE ${CMAKE_BINARY_DIR}/torch_pch.cpp "// carries the precompiled header\n")
add_library(filo_torch_pch STATIC ${CMAKE_BINARY_DIR}/torch_pch.cpp)
target_link_libraries(filo_torch_pch PUBLIC filo_flags filo::torch)
target_precompile_headers(filo_torch_pch PRIVATE <torch/torch.h> <nlohmann/json.hpp>)
