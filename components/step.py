"""What every KFP component has in common."""

import functools

from kfp import dsl

STEPS_IMAGE = "fbt-steps:0.1.0"
"""Default image of all steps. A run replaces its tag by the code version, which thereby becomes
part of every cache key: KFP hashes a step's image, never the code that the step imports."""

step = functools.partial(
    dsl.component, base_image=STEPS_IMAGE, packages_to_install=[], install_kfp_package=False
)
"""Decorator for a step. The image holds everything; nothing is installed at run time."""
