from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from actors.data.files import read_files
from actors.data.world import ALPHABET, work_out, write_addition
from rewards import Case, Outcome
from rewards.answers.text import number


@given(st.integers(0, 10**8 - 1), st.integers(0, 10**8 - 1))
def test_every_worked_answer_is_correct_and_writable(left: int, right: int) -> None:
    worked = work_out(left, right)
    assert set(worked) <= set(ALPHABET)
    assert number(Case(response=worked, reference=str(left + right))).outcome is Outcome.CORRECT


def test_carries_are_written() -> None:
    assert work_out(58, 467) == "8+7+0=15,5+6+1=12,0+4+1=5#525"


def test_a_slip_carries_on_to_the_result_as_it_would_on_paper() -> None:
    slips = iter([1, 0, -1])
    assert work_out(58, 467, lambda: next(slips)) == "8+7+0=16,5+6+1=12,0+4+1=4#426"
    assert work_out(0, 0, lambda: -1) == "0+0+0=0#0"


def test_the_same_seed_writes_the_same_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_addition(tmp_path / name, digits=3, prompts=50, worked=50, seed=4)
    for file in ("prompts.jsonl", "worked.jsonl"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert len(list(read_files(str(tmp_path / "a" / "prompts.jsonl")))) == 50
    lengths = {len(row.cells["response"]) for row in read_files(str(tmp_path / "a" / "worked.jsonl"))}
    assert len(lengths) > 5  # answers vary in length


def test_slips_may_differ_with_the_number_of_digits(tmp_path: Path) -> None:
    write_addition(tmp_path, digits=3, prompts=1, worked=400, seed=0, slips=(0.0, 0.2, 1.0))
    right: dict[int, list[bool]] = {1: [], 2: [], 3: []}
    for row in read_files(str(tmp_path / "worked.jsonl")):
        left, plus = row.cells["prompt"].rstrip("=").split("+")
        answer = row.cells["response"].rsplit("#")[-1]
        right[max(len(left), len(plus))].append(answer == str(int(left) + int(plus)))
    shares = [sum(told) / len(told) for told in right.values()]
    assert shares[0] == 1
    assert 0.4 < shares[1] < 0.9  # 0.64 where none cancels another
    assert shares[2] < 0.1
