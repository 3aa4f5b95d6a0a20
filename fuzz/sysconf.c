/* The kernels ask for the size of the last-level cache, from which on they stream
 * and prefetch: a small one lets small arrays try that (build.py renames their call). */
long fuzz_sysconf(int name);

long fuzz_sysconf(int name)
{
    (void)name;
    return 1 << 16;
}
