"""Operations that PyTorch dispatches, seen one by one: for tests that count or forbid some."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

# The host waits for the device to read a value, or a size that depends on values.
LOOKS = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero")


class Operations(TorchDispatchMode):
    """Counts the operations within it, views aside, and lists those that make the host wait for a device.

    `see(function, arguments, result)` is called with each. An operation that would wait raises `refuse`.
    """

    def __init__(
        self, see: Callable[[Any, Any, Any], None] | None = None, refuse: type[Exception] | None = None
    ) -> None:
        super().__init__()
        self.number, self.looks = 0, []
        self.see, self.refuse = see, refuse

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.number += not func.is_view
        if func.overloadpacket.__name__ in LOOKS:
            self.looks.append(func)
            if self.refuse is not None:
                raise self.refuse(func.name())
        result = func(*args, **(kwargs or {}))
        if self.see is not None:
            self.see(func, args, result)
        return result
