"""Constants that the BentoML declaration and the endpoints share; importing them loads nothing."""

RECOMMEND = "/recommend"
BATCH = "/recommend/batch"
SIMILAR = "/similar"

LATENCY_BUCKETS_S = [
    *(0.00025, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075),
    *(0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0),
]
"""An answer takes about a millisecond; BentoML's default buckets start at five."""
