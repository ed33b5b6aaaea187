"""Puts merged weights into MLflow's model registry, through a client that is given."""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

MODEL_FOLDER = "model"
ALIAS = "confirmed"


def register(
    client: Any, run: str, files: Sequence[Path], name: str, tags: Mapping[str, str], local: bool
) -> None:
    """Attaches files to a run and makes them a version of a registered model.

    There is one model for each name and one version for each run; the newest version is aliased.
    Where artifacts are `local`, on the disk of the files, they are linked and not copied.
    """
    place = client.get_run(run).info.artifact_uri
    if local and place.startswith("file:"):
        _link(files, Path(unquote(urlsplit(place).path)) / MODEL_FOLDER)
    else:
        for path in files:
            client.log_artifact(run, str(path), MODEL_FOLDER)
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name, description=f"Winner of {tags['cell']}.")
    told = client.search_model_versions(f"name = '{name}'")
    versions = [int(one.version) for one in told if one.run_id == run]
    if not versions:
        made = client.create_model_version(
            name, f"{place}/{MODEL_FOLDER}", run, dict(tags), await_creation_for=0
        )
        versions = [int(made.version)]
    # The answer to the version's making can have been lost; a later study's stays.
    if max(versions) >= max((int(one.version) for one in told), default=0):
        client.set_registered_model_alias(name, ALIAS, str(max(versions)))


def _link(files: Sequence[Path], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for path in files:
        (folder / path.name).unlink(missing_ok=True)
        try:
            os.link(path, folder / path.name)
        except OSError:  # on another disk, or one that knows no links
            shutil.copyfile(path, folder / path.name)
