"""Measures mlepool against local limits and against its peers, in one run.

`python -m benchmarks` prints one table of ratios; see `python -m benchmarks --help`.
Absolute times of two runs cannot be compared; ratios inside one run can.
"""
