"""Audit the tests by mutation: change one thing in a copy of the code, run the tests that reach it, and list what survives.

Sources: DeMillo, Lipton and Sayward, "Hints on test data selection" (1978); Papadakis et al., "Mutation testing advances: an
analysis and survey" (2019), https://doi.org/10.1016/bs.adcom.2018.03.015.
"""
