"""Settings that hold for every test process and what it starts."""

import os

import pytest

# Tiny networks only lose time to threads, and two test runs at once would fight for the cores.
os.environ["OMP_NUM_THREADS"] = "1"
# A cluster that runs on this machine is not the tests' to join.
os.environ["RAY_ADDRESS"] = "local"
os.environ.pop("MLFLOW_TRACKING_URI", None)
os.environ.pop("LRCS_STORAGE", None)
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Decoded images of tests stay out of the person's cache."""
    os.environ["LRCS_CACHE_ROOT"] = str(tmp_path_factory.mktemp("cache"))
