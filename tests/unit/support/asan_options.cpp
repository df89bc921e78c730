// For programs that call MPI_Init: Open MPI is built without frame pointers, so that a leak of its own, which
// cmake/lsan.supp passes over by library, is told from one of ours only by a stack that is unwound the slow way.
extern "C" const char* __asan_default_options();  // NOLINT(bugprone-reserved-identifier): ASan's name for it
extern "C" const char* __asan_default_options() { return "fast_unwind_on_malloc=0"; }
