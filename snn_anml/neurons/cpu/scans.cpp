// Entry points of the shared library: each scan for float and double, for neurons begin to end.
#include "forward.h"
#include "tangent.h"

#define ENTRY(name, Scan, F) \
  extern "C" void name(const Scan<F>* scan, int64_t begin, int64_t end) { scan->run(begin, end); }

ENTRY(forward_float32, Forward, float)
ENTRY(forward_float64, Forward, double)
ENTRY(adjoint_float32, Adjoint, float)
ENTRY(adjoint_float64, Adjoint, double)
ENTRY(tangent_float32, Tangent, float)
ENTRY(tangent_float64, Tangent, double)
