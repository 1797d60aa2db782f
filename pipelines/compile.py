"""`fbt compile`: writes the pipelines as files for a cluster."""

from pathlib import Path
from typing import Any

from components.model.atomic import atomic_write
from pipelines.home import code_version
from pipelines.placement import Placement, add_tag, place_pipeline


def compile_pipeline(
    folder: Path, version: str, placement: Placement, name: str = "training"
) -> list[Path]:
    """Plain YAML, and Kubernetes Pipeline and PipelineVersion objects, of `training` or
    `feedback`."""
    from kfp import compiler

    from pipelines.images import VERSION
    from pipelines.kfp_local import find_pipeline

    image = add_tag(placement.image, VERSION, code_version())
    placement = placement.model_copy(update={"image": image})
    pipeline = place_pipeline(find_pipeline(name), placement, code_version(), f"fbt-{name}")
    plain, objects = folder / f"{name}.yaml", folder / f"{name}-kubernetes.yaml"
    for path, options in ((plain, None), (objects, _manifest_options(compiler, version, name))):
        with atomic_write(path) as aside:
            named = aside.with_suffix(".yaml")  # the compiler requires the suffix
            compiler.Compiler().compile(
                pipeline, str(named),
                kubernetes_manifest_format=options is not None,
                kubernetes_manifest_options=options,
            )  # fmt: skip
            named.rename(aside)
    return [plain, objects]


def _manifest_options(compiler: Any, version: str, name: str) -> Any:
    return compiler.compiler_utils.KubernetesManifestOptions(
        pipeline_name=f"fbt-{name}",
        # As an upload calls it: `fbt submit` finds an applied pipeline by this name.
        pipeline_display_name=f"fbt-{name}",
        pipeline_version_name=f"fbt-{name}-{version}",
        pipeline_version_display_name=version,
        include_pipeline_manifest=True,
    )
