/* Which instruction set's kernels run: chosen once, at import. */
#ifndef DROP_ISA_H
#define DROP_ISA_H

#include "kernels/kernels.h"

/* The names this build and this processor share, best first; NULL ends them. */
const char *const *drop_isa_names(void);

/* The kernels of a name, or the best for NULL; NULL if the name is not available. */
const drop_kernels *drop_isa_kernels(const char *name);

/* Notes that a pipeline of these kernels has run. Tests ask for it, which also forgets it: nothing
 * else would show if masks went the longer way. */
void drop_note_pipeline(const drop_kernels *kernels);
const char *drop_take_pipeline(void);

#endif
