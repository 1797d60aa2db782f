"""`fbt compile`: the pipeline as files for a cluster."""

from pathlib import Path
from typing import Any

from components.contracts import written_aside

NAME = "fbt-training"


def compile_pipeline(folder: Path, image: str, version: str) -> list[Path]:
    """Write the pipeline as YAML, and as Kubernetes Pipeline and PipelineVersion objects."""
    from kfp import compiler

    from pipelines.kfp_local import with_image
    from pipelines.training import training

    with_image(training.pipeline_spec, image)
    plain, objects = folder / "training.yaml", folder / "training-kubernetes.yaml"
    for path, options in ((plain, None), (objects, _manifest_options(compiler, version))):
        with written_aside(path) as aside:
            named = aside.with_suffix(".yaml")  # the compiler insists on the suffix
            compiler.Compiler().compile(
                training, str(named),
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
