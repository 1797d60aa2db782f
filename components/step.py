"""The decorator of all KFP components."""

import functools

from kfp import dsl

STEPS_IMAGE = "fbt-steps:0.1.0"
"""A run sets the tag to the code version, as KFP's cache keys contain the image but no code."""

step = functools.partial(
    dsl.component, base_image=STEPS_IMAGE, packages_to_install=[], install_kfp_package=False
)
