/* Memory for the tasks of an operation: a room for each thread, set aside before anything is written. */
#ifndef DROP_ROOMS_H
#define DROP_ROOMS_H

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

#include "drivers/evaluate.h"

enum { ROOM_ALIGNED = 64 };

typedef struct {
    char *memory, *first;
    atomic_flag *occupied;
    size_t bytes; /* of a room */
} drop_rooms;

static inline size_t aligned_bytes(size_t bytes) { return (bytes + ROOM_ALIGNED - 1) / ROOM_ALIGNED * ROOM_ALIGNED; }

/* Returns 0 or DROP_NO_MEMORY. */
static inline int make_rooms(drop_rooms *rooms, int threads, size_t bytes)
{
    const size_t count = threads > 1 ? (size_t)threads : 1;
    rooms->bytes = aligned_bytes(bytes + 1); /* never 0: a room's place is its number */
    rooms->memory = malloc(count * (rooms->bytes + sizeof *rooms->occupied) + ROOM_ALIGNED);
    if (!rooms->memory) return DROP_NO_MEMORY;
    rooms->first = rooms->memory + (-(uintptr_t)rooms->memory % ROOM_ALIGNED);
    rooms->occupied = (atomic_flag *)(rooms->first + count * rooms->bytes);
    for (size_t i = 0; i < count; i++) atomic_flag_clear(rooms->occupied + i);
    return 0;
}

static inline void free_rooms(drop_rooms *rooms) { free(rooms->memory); }

static inline char *take_room(const drop_rooms *rooms)
{
    size_t i = 0; /* one is free, for there are as many as threads */
    while (atomic_flag_test_and_set(rooms->occupied + i)) i++;
    return rooms->first + i * rooms->bytes;
}

static inline void give_room(const drop_rooms *rooms, const char *room)
{
    atomic_flag_clear(rooms->occupied + (size_t)(room - rooms->first) / rooms->bytes);
}

#endif
