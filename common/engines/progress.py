"""One progress bar over a whole run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping

from ignite.engine import Engine, Events
from tqdm import tqdm


class Progress:
    """
    A bar over all iterations of all epochs, with the latest numbers beside it.

    In a log file it writes a line a quarter of a minute; Ignite's own bar would write one an iteration.

    Args:
        description: stands before the bar.
        numbers: gives what stands behind it.
    """

    def __init__(self, description: str, numbers: Callable[[], Mapping[str, float]] | None = None) -> None:
        self.description, self.numbers = description, numbers
        self.bar: tqdm | None = None

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._step)
        engine.add_event_handler(Events.COMPLETED | Events.EXCEPTION_RAISED, self._close)

    def _start(self, engine: Engine) -> None:
        total = (engine.state.max_epochs or 1) * (engine.state.epoch_length or 0)
        interval = 0.2 if sys.stderr.isatty() else 15.0
        self.bar = tqdm(total=total, initial=engine.state.iteration, desc=self.description, mininterval=interval)

    def _step(self, engine: Engine) -> None:
        if self.bar is None:
            return
        if (engine.state.max_epochs or 1) > 1:
            self.bar.set_description(f"{self.description}, epoch {engine.state.epoch}", refresh=False)
        if self.numbers is not None:
            self.bar.set_postfix({name: f"{value:.3f}" for name, value in self.numbers().items()}, refresh=False)
        self.bar.update()

    def _close(self, engine: Engine, error: BaseException | None = None) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None
        if error is not None:
            raise error
