"""The decorator of all KFP components."""

import functools

from kfp import dsl

STEPS_IMAGE = "fbt-steps:0.1.0"
"""A run replaces the tag by the code version: KFP's cache key has a step's image, but not the code
that the step imports."""

step = functools.partial(
    dsl.component, base_image=STEPS_IMAGE, packages_to_install=[], install_kfp_package=False
)
