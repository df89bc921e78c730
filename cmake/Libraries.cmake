# The libraries of the rooms without LibTorch and MPI. The package of `make install` includes this file too: whoever does
# find_package(filo) needs the same ones.
find_package(Threads REQUIRED)
find_package(OpenSSL REQUIRED)
find_package(yaml-cpp REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(spdlog REQUIRED)
find_package(SQLite3 REQUIRED)
find_package(SQLiteCpp REQUIRED)
find_package(PNG REQUIRED)
find_package(JPEG REQUIRED)
find_package(ZLIB REQUIRED)
set(HDF5_PREFER_PARALLEL OFF)
find_package(HDF5 REQUIRED COMPONENTS C)

# Imported, so that an installed room names them and brings no path of the machine it was built on.
add_library(filo::sqlite INTERFACE IMPORTED)
target_link_libraries(filo::sqlite INTERFACE SQLiteCpp SQLite::SQLite3)
add_library(filo::hdf5 INTERFACE IMPORTED)
target_include_directories(filo::hdf5 SYSTEM INTERFACE ${HDF5_C_INCLUDE_DIRS})
target_link_libraries(filo::hdf5 INTERFACE ${HDF5_C_LIBRARIES})
find_library(FILO_ISAL isal REQUIRED)
add_library(filo::isal INTERFACE IMPORTED)
target_link_libraries(filo::isal INTERFACE ${FILO_ISAL})
