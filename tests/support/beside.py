"""Something that is looked at all the time, while a test does other things."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from typing import Self


class Beside(ABC):
    """A thread for the time of a `with` block, whose end raises what the thread died of."""

    def __init__(self) -> None:
        """Nothing is looked at before the `with` block."""
        self.stop = threading.Event()
        """To be asked, and waited for, by `work`."""
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run)

    @abstractmethod
    def work(self) -> None:
        """Look until told to stop."""

    def _run(self) -> None:
        try:
            self.work()
        except BaseException as error:
            self._failure = error

    def close(self) -> None:
        """Look no more. Raises what the thread died of, once."""
        self.stop.set()
        if self._thread.ident is not None:
            self._thread.join()
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
