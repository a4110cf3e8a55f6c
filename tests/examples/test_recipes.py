"""The recipes: each can be read, and fits on the GPUs that its page names."""

import re
from pathlib import Path

import pytest

from cluster.commands.plan import plan_on
from cluster.config.reading import load_config
from cluster.placement.imagined import ImaginedCluster

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "examples/recipes"
MODELS = ROOT / "tests/data"  # config.json of models, and nothing else
FITS = {  # recipe -> model, GPUs, GiB at most in the page
    "gsm8k-0.5b": ("qwen2.5-0.5b", "1x24", "gsm8k 19.4 of 24"),
    "math-1.5b": ("qwen2.5-1.5b", "4x40", "math 22.9 of 40"),
    "paper-7b": ("qwen2.5-7b", "8x80", "paper-7b 75.1 of 80"),
    "paper-3b": ("llama-3.2-3b", "8x80", "paper-3b 58.7 of 80"),
    "mbpp": ("qwen2.5-1.5b", "2x40", ""),
    "sql": ("qwen2.5-7b", "8x80", ""),
    "puzzles": ("qwen2.5-1.5b", "2x40", "puzzles 34.4 of 40"),
}


def test_every_recipe_is_tried() -> None:
    assert {file.stem for file in RECIPES.glob("*.toml")} == set(FITS)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", FITS)
def test_a_recipe_fits_on_the_gpus_that_its_page_names(recipe: str) -> None:
    model, where, said = FITS[recipe]
    named = ["data.path=train.jsonl"] + ["eval.path=test.jsonl"] * (recipe != "mbpp")
    config = load_config(RECIPES / f"{recipe}.toml", [f"model.path={MODELS / model}", *named])
    plan = plan_on(config, ImaginedCluster.of(where))
    held = re.search(r"^  at most +([\d.]+)  ", plan, re.MULTILINE)
    assert held is not None
    if said:
        page = (RECIPES / "README.md").read_text(encoding="utf-8")
        assert f"{said.partition(' ')[0]} {float(held[1]):.1f} of" in page
        assert said in page
