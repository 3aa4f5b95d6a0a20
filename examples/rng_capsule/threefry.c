/* Bring your own random number generator: Threefry2x64-20 as a C capsule.
 *
 * fastdrop draws masks from a stream of 64-bit words. A generator is one
 * function, `fill`, that writes words `position` to `position + n - 1` of the
 * stream that a key selects. It has no hidden state, so that any thread may ask
 * for any part of the stream in any order. A Python module hands the function's
 * address to fastdrop in a PyCapsule, with the version and size of the struct
 * around it, so that a mismatch is refused and not run.
 *
 * Threefry encrypts a counter: counter (c, 0) gives words 2c and 2c + 1.
 *
 * Reference: J. K. Salmon, M. A. Moraes, R. O. Dror and D. E. Shaw, "Parallel
 * random numbers: as easy as 1, 2, 3", SC 2011.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "fastdrop_rng.h"

static uint64_t rotate_left(uint64_t x, int bits)
{
    return x << bits | x >> (64 - bits);
}

static void threefry2x64(const uint64_t key[2], uint64_t x[2])
{
    static const int rotations[8] = {16, 42, 12, 31, 16, 32, 24, 21};
    const uint64_t keys[3] = {key[0], key[1], 0x1BD11BDAA9FC1A22u ^ key[0] ^ key[1]};
    x[0] += keys[0];
    x[1] += keys[1];
    for (unsigned round = 0; round < 20; round++) {
        x[0] += x[1];
        x[1] = rotate_left(x[1], rotations[round % 8]) ^ x[0];
        if (round % 4 == 3) {
            unsigned injection = round / 4 + 1;
            x[0] += keys[injection % 3];
            x[1] += keys[(injection + 1) % 3] + injection;
        }
    }
}

static int fill(const void *key, uint64_t position, uint64_t n, uint64_t *out)
{
    for (uint64_t i = 0; i < n;) {
        uint64_t x[2] = {(position + i) / 2, 0};
        threefry2x64(key, x);
        for (uint64_t half = (position + i) % 2; half < 2 && i < n; half++, i++) out[i] = x[half];
    }
    return 0;
}

static fastdrop_rng threefry = {FASTDROP_RNG_ABI_VERSION, sizeof(fastdrop_rng), 2, fill};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "threefry", "Threefry2x64-20 for fastdrop.", -1, NULL,
};

PyMODINIT_FUNC PyInit_threefry(void)
{
    PyObject *m = PyModule_Create(&module);
    PyObject *capsule = m ? PyCapsule_New(&threefry, FASTDROP_RNG_CAPSULE, NULL) : NULL;
    if (!capsule || PyModule_AddObjectRef(m, "capsule", capsule) < 0) Py_CLEAR(m);
    Py_XDECREF(capsule);
    return m;
}
