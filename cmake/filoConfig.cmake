# find_package(filo): filo::base, filo::settings, filo::workspace, filo::checkpoint, filo::data, as static libraries; headers are
# included by their path in the project ("data/boxes.hpp"). What they link is looked for here, with the consumer's CMake.
# The rooms that need LibTorch or MPI (model, trainer, cluster) are not offered: they must be built with the LibTorch they run with.
include(${CMAKE_CURRENT_LIST_DIR}/Libraries.cmake)
include(${CMAKE_CURRENT_LIST_DIR}/filoTargets.cmake)
