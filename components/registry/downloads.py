"""A run's files, one by one: with their sizes, so that a reader can show how far it got."""

from pathlib import Path

from components.registry.registry import registry_client


def list_files(run_id: str, artefact: str) -> dict[str, int]:
    """Bytes by path below the run; folders within `artefact` are left out. Raises RegistryError."""
    with registry_client() as client:
        found = client.list_artifacts(run_id, artefact)
    return {one.path: int(one.file_size or 0) for one in found if not one.is_dir}


def download_file(run_id: str, path: str, folder: Path) -> None:
    """To `folder`, by its name there. Raises RegistryError."""
    with registry_client() as client:
        found = Path(client.download_artifacts(run_id, path, str(folder)))
    found.rename(folder / found.name)
