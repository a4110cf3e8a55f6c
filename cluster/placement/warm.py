"""Actors that serve one run after another; they are started anew only where a run needs others than are there."""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cluster.config.run_config import RunConfig
from cluster.placement.actors import RunActors, calls_at_once, running_actors
from cluster.placement.layout import Layout
from cluster.preparing.preflight import Prepared

SPARE_TOKENS = 32  # that engines allow beyond the longest sequence of their first run, for runs on other data


class WarmActors:
    """The running actors of a layout, kept between runs. A context manager: its end is theirs."""

    def __init__(self, layout: Layout, label: str = "") -> None:
        """`label`: as of `running_actors`."""
        self._layout, self._label = layout, label
        self._stack = ExitStack()
        self._actors: RunActors | None = None
        self._shape: dict[str, Any] = {}
        self._max_model_len = self._calls = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.end()

    @property
    def layout(self) -> Layout:
        """Where they are."""
        return self._layout

    def for_run(self, prepared: Prepared) -> RunActors:
        """Actors that can serve this run; its layout is the one that these were made for."""
        shape, calls = _shape(prepared.config), calls_at_once(prepared.config)
        too_small = prepared.max_model_len > self._max_model_len or calls > self._calls
        if self._actors is None or shape != self._shape or too_small:
            self.end()
            self._shape, self._calls = shape, calls
            self._max_model_len = min(prepared.max_model_len + SPARE_TOKENS, prepared.positions)
            roomy = replace(prepared, max_model_len=self._max_model_len)
            self._actors = self._stack.enter_context(running_actors(roomy, self._layout, self._label))
        return self._actors

    def end(self) -> None:
        """Ends all actors; after a failure the next run starts new ones."""
        self._stack.close()
        self._actors = None


def _shape(config: RunConfig) -> dict[str, Any]:
    """The settings that actors cannot change while they live."""
    tree = config.model_dump(include={"generator", "sync", "cluster"})
    tree["model"] = config.model_dump(include={"model": {"dtype", "attention"}})
    tree["model_config"] = (Path(config.model.path) / "config.json").read_text(encoding="utf-8")
    tree["judges"] = config.hosted_judges
    tree["scorers"] = list(config.hosted_scorers(on_gpu=True))
    tree["samples"], tree["evaluators"] = config.samples, config.evaluators
    return tree
