// Inside cluster/ only: MPI's return codes as errors.
#pragma once

#include <mpi.h>

#include <string>

#include "base/error.hpp"

namespace filo {

inline void check_mpi(int code, const char* operation) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = {};
  int length = 0;
  MPI_Error_string(code, text, &length);
  throw Error(std::string("mpi: ") + operation,
              "failed: " + std::string(text, static_cast<std::size_t>(length)) + " (has another rank ended?)");
}

}  // namespace filo
