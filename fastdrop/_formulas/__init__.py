"""Activations, exp, log and normal variates to the last bit, in plain NumPy."""
