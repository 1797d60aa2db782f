"""`fbt compile`: writes the pipeline as files for a cluster."""

from pathlib import Path
from typing import Any

from components.model.atomic import atomic_write
from pipelines.home import code_version
from pipelines.placement import NAME, Placement, add_tag, place_pipeline

PLAIN, OBJECTS = "training.yaml", "training-kubernetes.yaml"


def compile_pipeline(folder: Path, version: str, placement: Placement) -> list[Path]:
    """Plain YAML, and Kubernetes Pipeline and PipelineVersion objects."""
    from kfp import compiler

    from pipelines.images import VERSION
    from pipelines.training import training

    image = add_tag(placement.image, VERSION, code_version())
    placement = placement.model_copy(update={"image": image})
    pipeline = place_pipeline(training, placement, code_version())
    plain, objects = folder / PLAIN, folder / OBJECTS
    for path, options in ((plain, None), (objects, _manifest_options(compiler, version))):
        with atomic_write(path) as aside:
            named = aside.with_suffix(".yaml")  # the compiler requires the suffix
            compiler.Compiler().compile(
                pipeline, str(named),
                kubernetes_manifest_format=options is not None,
                kubernetes_manifest_options=options,
            )  # fmt: skip
            named.rename(aside)
    return [plain, objects]


def _manifest_options(compiler: Any, version: str) -> Any:
    return compiler.compiler_utils.KubernetesManifestOptions(
        pipeline_name=NAME,
        pipeline_display_name="fbt training",
        pipeline_version_name=f"{NAME}-{version}",
        pipeline_version_display_name=version,
        include_pipeline_manifest=True,
    )
