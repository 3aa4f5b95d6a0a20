/* The pipeline of one dtype for one layout of a block's words: a function for each way to write. All
 * in one, GCC's code took 6% longer. */
#define PIPE(how) DROP_JOIN(LAYOUT, T(_##how))

static __attribute__((noinline)) void PIPE(cached)(const drop_mask *mask, uint64_t block, uint64_t blocks,
                                                   drop_writer w, T(scale) scale)
{
    T(pipe_blocks)(mask, block, blocks, w, scale, LAYOUT_WORDS, 0, 0);
}

static __attribute__((noinline)) void PIPE(streamed)(const drop_mask *mask, uint64_t block, uint64_t blocks,
                                                     drop_writer w, T(scale) scale)
{
    T(pipe_blocks)(mask, block, blocks, w, scale, LAYOUT_WORDS, 0, 1);
}

#if DTYPE_ADDS
static __attribute__((noinline)) void PIPE(added_cached)(const drop_mask *mask, uint64_t block, uint64_t blocks,
                                                         drop_writer w, T(scale) scale)
{
    T(pipe_blocks)(mask, block, blocks, w, scale, LAYOUT_WORDS, 1, 0);
}

static __attribute__((noinline)) void PIPE(added_streamed)(const drop_mask *mask, uint64_t block,
                                                           uint64_t blocks, drop_writer w, T(scale) scale)
{
    T(pipe_blocks)(mask, block, blocks, w, scale, LAYOUT_WORDS, 1, 1);
}
#endif

/* By whether something is added, and whether outputs are streamed. */
static const T(pipe_run) DROP_JOIN(LAYOUT, T())[][2] = {
    {PIPE(cached), PIPE(streamed)},
#if DTYPE_ADDS
    {PIPE(added_cached), PIPE(added_streamed)},
#endif
};

#undef PIPE
#undef LAYOUT
#undef LAYOUT_WORDS
