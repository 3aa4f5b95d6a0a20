"""Finders of faults in the C kernels: sanitizers, valgrind and fuzzers (see README.md)."""
