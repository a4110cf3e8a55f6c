from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Any], Path]:
    """Writes the world of a recipe once; gives its folder."""
    made: dict[str, Path] = {}

    def written(data: Any) -> Path:
        if data.__name__ not in made:
            made[data.__name__] = tmp_path_factory.mktemp("world")
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("examples.papers.frozen.teach", lambda *_, **__: None)  # it takes a minute
                data.write(made[data.__name__])
        return made[data.__name__]

    return written
