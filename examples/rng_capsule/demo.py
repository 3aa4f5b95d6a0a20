"""Draw masks from a generator written in C, threefry.c beside this file.

cd examples/rng_capsule
python setup.py build_ext --inplace
python demo.py
"""

import numpy as np
import threefry

import fastdrop


class Threefry(fastdrop.RNG):
    """Threefry2x64-20; see `fastdrop.RNG` for what it inherits."""

    name = "threefry"
    capsule = threefry.capsule


fastdrop.register_rng("threefry", Threefry)


def main() -> None:
    x = np.ones((2, 8), np.float32)
    for backend in fastdrop.available_backends():
        with fastdrop.use_backend(backend):
            y = fastdrop.dropout(x, p=0.25, rng=Threefry(seed=1))
        print(f"{backend}:\n{y}")


if __name__ == "__main__":
    main()
