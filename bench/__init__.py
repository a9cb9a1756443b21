"""Benchmarks: each prints a table and a JSON file; not part of the test command."""
