"""Free the resources that a dead run had reserved, in a process that loads no torch."""

from __future__ import annotations

from typing import Any

import ray
from ray.train.v2._internal.callbacks import placement_group_callback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.execution.controller import placement_group_cleaner
from ray.train.v2._internal.execution.controller.placement_group_cleaner import PlacementGroupCleaner


class OwnCleaner(PlacementGroupCleaner):
    """The process that frees the resources of a dead run; it asks its own cluster whether the run is alive.

    Ray's own process asks a dashboard: that of the Ray that was started last on this machine, or whatever
    listens at the default port. Another Ray does not know the run, and the run then lost its workers.
    """

    def start_monitoring(self) -> Any:
        """Begin to watch the run."""
        placement_group_cleaner.is_actor_alive = is_actor_alive
        return super().start_monitoring()


class OwnCleanerCallback(PlacementGroupCleanerCallback):
    """Starts the cleaner of this package instead of Ray's."""

    def after_controller_start(self, train_run_context: Any) -> None:
        """Run in the controller's process, before it starts workers."""
        placement_group_callback.PlacementGroupCleaner = OwnCleaner  # type: ignore[misc]
        super().after_controller_start(train_run_context)


def is_actor_alive(actor_id: str, timeout: float) -> bool:
    """Return whether an actor of this cluster has not ended; an unknown one counts as alive.

    Ray calls it with a `timeout` in seconds, which its own cluster does not need.
    """
    return ray._private.state.actors(actor_id).get("State") != "DEAD"
