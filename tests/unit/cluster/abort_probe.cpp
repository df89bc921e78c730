// Rank 1 fails while the others wait for it.
#include <string>

#include "cluster/communicator.hpp"
#include "cluster/session.hpp"

int main(int argc, char** argv) {
  const bool unwinding = argc > 1 && std::string(argv[1]) == "unwinding";
  try {
    filo::MpiSession session;
    const auto work = [&]() -> int {
      const auto communicator = filo::make_mpi_communicator();
      if (session.rank() == 1) throw filo::UsageError("probe: settings.yaml: key", "found 1, expected 2");
      communicator->barrier();
      return 0;
    };
    return unwinding ? work() : session.run(work);
  } catch (const filo::Error&) {
    return 1;
  }
}
