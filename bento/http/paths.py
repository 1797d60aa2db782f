"""The paths of the API that BentoML declares, too."""

RECOMMEND = "/recommend"
BATCH = "/recommend/batch"
SIMILAR = "/similar"
