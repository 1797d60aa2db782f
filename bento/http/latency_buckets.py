"""How latency is counted."""

LATENCY_BUCKETS_S = [
    *(0.00025, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075),
    *(0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0),
]
"""An answer takes a millisecond; BentoML's own buckets start at five."""
