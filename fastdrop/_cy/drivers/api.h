/* The table of include/fastdrop.h, whose `open_mask` is Python's part to set. */
#ifndef DROP_API_H
#define DROP_API_H

#include "include/fastdrop.h"

extern fastdrop_api drop_api;

#endif
