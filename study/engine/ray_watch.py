"""RayWatch: notices that a process dies which the Ray of this driver cannot do without."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from ray._private import ray_constants

from study.errors import LostError

GCS = "GCS server"
PARTS = {
    ray_constants.PROCESS_TYPE_RAYLET: "raylet",
    ray_constants.PROCESS_TYPE_GCS_SERVER: GCS,
}
POLL_SECONDS = 1.0
# Tune's loop looks several times a second whether the study was stopped, unless it waits for what
# has died.
GRACE_SECONDS = 5.0
# What still hangs so long after it was woken is given up.
GIVE_UP_SECONDS = 15.0
WAKE = signal.SIGUSR1


class Process(Protocol):
    """What of `subprocess.Popen` is needed."""

    returncode: int | None

    def poll(self) -> int | None:
        """The code that it ended with; None while it runs."""


class RayWatch:
    """Watches the processes of a Ray that this process has started.

    `dead` says which one has died, once one has.
    """

    def __init__(self) -> None:
        self.dead: str | None = None
        self._hopeless = False
        self._parts: Mapping[str, Process] = {}
        self._over = threading.Event()

    def begin(self, parts: Mapping[str, Process]) -> None:
        """Watches these processes, by what they are, from now on."""
        self._parts = parts

    def look(self) -> bool:
        """Whether any of them is dead."""
        for name, process in self._parts.items():
            if self.dead is None and process.poll() is not None:
                self.dead = f"Ray's {name} has died (code {process.returncode})"
                self._hopeless = name == GCS
        return self.dead is not None

    @contextlib.contextmanager
    def over(self, stop: type[BaseException], give_up: Callable[[str], None]) -> Iterator[None]:
        """Watches while it is active.

        Args:
            stop: is raised in the main thread where that hangs once a process is dead.
            give_up: is called from another thread, with what is dead, where that helps nothing: in
                Ray's own code, which waits for a GCS server that is gone, no Python runs.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        main = threading.get_ident()

        def leave(*_: object) -> None:
            if not self._over.is_set():
                raise stop

        def watch() -> None:
            while not self._over.wait(POLL_SECONDS):
                if not self.look():
                    continue
                assert self.dead is not None
                if not self._over.wait(GRACE_SECONDS):
                    if not self._hopeless:
                        signal.pthread_kill(main, WAKE)
                        if self._over.wait(GIVE_UP_SECONDS):
                            return
                    give_up(self.dead)
                return

        before = signal.signal(WAKE, leave)
        threading.Thread(target=watch, daemon=True).start()
        try:
            yield
        finally:
            self._over.set()
            signal.signal(WAKE, before)


def own_parts() -> dict[str, Any]:
    """The processes of the Ray that this process has started, by what they are; none elsewhere."""
    import ray._private.worker as worker

    node = worker._global_node
    started = {} if node is None else node.all_processes
    return {name: started[kind][0].process for kind, name in PARTS.items() if started.get(kind)}


def kill_parts() -> None:
    """Ends the processes of the Ray that this process has started, without asking Ray."""
    import ray._private.worker as worker

    if worker._global_node is not None:
        worker._global_node.kill_all_processes(check_alive=False, allow_graceful=False)


def lost_ray(dead: str, command: str) -> LostError:
    """The error to stop a study with whose Ray lost a part."""
    return LostError(
        f"{dead}: the study was stopped. Where memory ran out, give it fewer trials at a time "
        f"(max_concurrent). Go on with: {command}"
    )
