"""Throughput on this machine: `python -m tests.benchmarks`."""
