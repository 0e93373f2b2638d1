// Entry points of the shared library: each scan for float and double, for neurons begin to end.
#include <new>

#include "forward.h"
#include "tangent.h"

// Returns 1 where there is no memory for scratch: no exception may leave the library.
#define ENTRY(name, Scan, F)                                               \
  extern "C" int name(const Scan<F>* scan, int64_t begin, int64_t end) {   \
    try {                                                                  \
      scan->run(begin, end);                                               \
      return 0;                                                            \
    } catch (const std::bad_alloc&) {                                      \
      return 1;                                                            \
    }                                                                      \
  }

extern "C" int block_size() { return BLOCK; }

ENTRY(forward_float32, Forward, float)
ENTRY(forward_float64, Forward, double)
ENTRY(adjoint_float32, Adjoint, float)
ENTRY(adjoint_float64, Adjoint, double)
ENTRY(tangent_float32, Tangent, float)
ENTRY(tangent_float64, Tangent, double)
