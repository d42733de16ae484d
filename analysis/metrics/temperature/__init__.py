"""Measure the ways to lower a temperature, at equal likelihood."""
