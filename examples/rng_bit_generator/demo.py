"""Draw masks from a NumPy BitGenerator written in Cython, xoshiro.pyx beside this file.

cd examples/rng_bit_generator
python setup.py build_ext --inplace
python demo.py
"""

import numpy as np
from xoshiro import Xoshiro256

import fastdrop

fastdrop.register_rng("xoshiro256", Xoshiro256)


def main() -> None:
    x = np.ones((2, 8), np.float32)
    for backend in fastdrop.available_backends():
        with fastdrop.use_backend(backend):
            y = fastdrop.dropout(x, p=0.25, rng=Xoshiro256(1))
        print(f"{backend}:\n{y}")
    generator = np.random.Generator(Xoshiro256(1))
    print("normal variates from the same kind of generator:", generator.normal(size=3))


if __name__ == "__main__":
    main()
