/* Which instruction set's kernels run: chosen at import, or later. */
#ifndef DROP_ISA_H
#define DROP_ISA_H

#include "kernels/kernels.h"

/* The names this build and this processor share, best first; NULL ends them. */
const char *const *drop_isa_names(void);

/* The kernels of a name, or the best for NULL; NULL if the name is not available. */
const drop_kernels *drop_isa_kernels(const char *name);

/* Makes them those that run from now on. Returns whether they are available. */
int drop_choose_isa(const char *name);
const drop_kernels *drop_chosen_kernels(void);

/* A built-in generator's name, and its function for whichever instruction set is chosen. Streams,
 * capsules and other people's code keep that address, so a choice holds for those from before it, too. */
const char *drop_generator_name(drop_generator generator);
fastdrop_fill drop_generator_fill(drop_generator generator);

/* The function of the chosen kernels for one of those, and any other as it is. */
fastdrop_fill drop_chosen_fill(fastdrop_fill fill);

/* Notes that a pipeline of these kernels has run. Tests ask for it, which also forgets it: nothing
 * else would show if masks went the longer way. */
void drop_note_pipeline(const drop_kernels *kernels);
const char *drop_take_pipeline(void);

#endif
