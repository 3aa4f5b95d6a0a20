/* Names of the generators whose counters yield two words each: see pairs_body.h. */
#ifndef DROP_PAIRS_H
#define DROP_PAIRS_H

#include "kernels/copy.h"
#include "kernels/rows.h"
#include "kernels/vec.h"

/* What has this name for the generator that a file is included for. */
#define G(name) DROP_JOIN(GENERATOR, _##name)

#endif
