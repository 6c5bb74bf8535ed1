"""Benchmarks: ratios against peers run in the same minute. Never a timed test: they print, and always exit 0."""
