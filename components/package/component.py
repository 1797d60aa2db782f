"""The packaging step."""

from kfp import dsl

from components.step import step


@step
def package(bundle: dsl.Input[dsl.Model], version: str, archive: dsl.Output[dsl.Artifact]) -> None:
    """Build the Bento of a registered model version and keep its archive with the version.

    Args:
        bundle: The bundle that was registered.
        version: Number of the registered model version.
        archive: The Bento as one file, for `bentoml import` and `bentoml containerize`.
    """
    from pathlib import Path

    from components.package.bento import build_bento
    from components.registry.registry import attach_archive
    from components.registry.signing import attach_archive_signature

    tag = build_bento(Path(bundle.path), version, Path(archive.path))
    archive.metadata["bento_tag"] = tag
    attach_archive_signature(version, Path(archive.path), tag)
    attach_archive(version, Path(archive.path), tag)
