"""Local copies of what is at addresses, on file systems of pyarrow and of fsspec; on S3 where a server can be had."""

import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest

from actors.data.files import files_of
from cluster.config.addresses import is_address
from cluster.config.errors import ConfigError
from cluster.config.reading import config_of, grading_config
from cluster.preparing.copies import with_copies
from cluster.preparing.storage import Part, below, copy_of, fetch, file_system, upload
from tests.s3 import s3_bucket

Put = Callable[[str, bytes], None]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WINNOW_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(params=["file", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Put]]:
    """An address, and what puts a file below it."""
    if request.param == "file":

        def put(name: str, content: bytes) -> None:
            file = tmp_path / "there" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            before = file.stat().st_mtime_ns if file.exists() else 0
            file.write_bytes(content)
            os.utime(file, ns=(before + 10**9, before + 10**9))  # as time passes between two versions

        yield f"file://{tmp_path}/there", put
    else:
        memory = fsspec.filesystem("memory")
        yield "memory://there", lambda name, content: memory.pipe(f"/there/{name}", content)
        memory.rm("/there", recursive=True)


def fetched(address: str, part: Part = Part.ALL) -> int:
    """Bytes that a look at an address fetches."""
    return fetch(address, copy_of(address), part).size


def test_a_folder_is_copied_once_and_again_where_it_changed(place: tuple[str, Put]) -> None:
    address, put = place
    put("config.json", b"{}")
    put("more/model.safetensors", b"1234")
    assert [fetched(address), fetched(address)] == [6, 0]
    put("more/model.safetensors", b"4321")
    assert [fetched(address), fetched(address)] == [4, 0]
    copy = copy_of(address)
    assert (copy / "more/model.safetensors").read_bytes() == b"4321"
    (copy / "config.json").unlink()
    assert fetched(address) == 2
    assert str(fetch(address, copy)) == "2 files there from before"


def test_the_copy_of_a_model_can_do_without_weights_until_they_are_read(place: tuple[str, Put]) -> None:
    address, put = place
    put("config.json", b"{}")
    put("model.safetensors", b"1234")
    assert [fetched(address, part) for part in (Part.CONFIG, Part.MODEL, Part.CONFIG)] == [2, 4, 0]
    assert (copy_of(address) / "model.safetensors").is_file()


def test_a_model_in_safetensors_comes_without_its_other_forms(place: tuple[str, Put]) -> None:
    address, put = place
    for name in ("config.json", "model.safetensors", "pytorch_model.bin", "original/consolidated.00.pth"):
        put(name, b"12")
    assert fetched(address, Part.MODEL) == 4
    put("a/config.json", b"12")
    put("a/pytorch_model.bin", b"12")
    assert fetched(f"{address}/a", Part.MODEL) == 4
    assert fetched(address) == 8  # of anything but a model, all


def test_files_and_patterns_are_copied_under_their_names(place: tuple[str, Put]) -> None:
    address, put = place
    for name in ("a.jsonl", "b.jsonl", "c.txt"):
        put(name, name.encode())
    assert fetched(below(address, "c.txt")) == 5
    assert copy_of(below(address, "c.txt")).read_bytes() == b"c.txt"
    assert fetched(below(address, "*.jsonl")) == 14
    pattern = copy_of(below(address, "*.jsonl"))
    assert sorted(path.name for path in pattern.parent.glob(pattern.name)) == ["a.jsonl", "b.jsonl"]
    assert [file.name for file in files_of(str(pattern))] == ["a.jsonl", "b.jsonl"]


def test_a_file_that_is_gone_there_goes_here(place: tuple[str, Put]) -> None:
    address, put = place
    put("a.jsonl", b"1")
    put("b.jsonl", b"2")
    fetched(address)
    system, path = file_system(address)
    system.delete_file(f"{path}/b.jsonl")
    fetched(address)
    assert [file.name for file in copy_of(address).iterdir()] == ["a.jsonl"]
    assert files_of(str(copy_of(address))) == [copy_of(address) / "a.jsonl"]


def test_a_copy_has_nothing_that_others_fetched_and_that_is_gone_since(place: tuple[str, Put]) -> None:
    address, put = place
    pattern = below(address, "*.jsonl")
    put("a.jsonl", b"1")
    put("b.jsonl", b"2")
    for one in (address, below(address, "b.jsonl"), below(address, "b*.jsonl")):
        fetched(one)
    system, path = file_system(address)
    system.delete_file(f"{path}/b.jsonl")
    fetched(pattern)
    fetched(address)
    assert [file.name for file in files_of(str(copy_of(pattern)))] == ["a.jsonl"]
    assert [file.name for file in files_of(str(copy_of(address)))] == ["a.jsonl"]


def test_stores_that_differ_in_options_alone_have_a_copy_each() -> None:
    options = ("", "?endpoint_override=one", "?endpoint_override=two", "?endpoint_override=two&scheme=http")
    assert len({copy_of(f"s3://bucket/m{more}") for more in options}) == 4
    assert copy_of("s3://bucket/m?a=1&b=2") == copy_of("S3://bucket/m/?b=2&a=1")
    assert copy_of("s3://bucket") != copy_of("s3://bucket/bucket")


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is nothing at file:///nowhere"):
        fetched("file:///nowhere")
    with pytest.raises(ConfigError, match=r"nothing://x cannot be read: .*comes from the environment"):
        fetched("nothing://x")


def test_a_copy_that_was_cut_short_goes_on(place: tuple[str, Put], monkeypatch: pytest.MonkeyPatch) -> None:
    from cluster.preparing import storage

    address, put = place
    put("a", b"12")
    put("b", b"345")
    download = storage._download
    monkeypatch.setattr(storage, "AT_ONCE", 1)

    def broken(system: object, one: storage.Remote, file: Path) -> None:
        if one.name == "b":
            raise ConnectionError("reset by peer")
        download(system, one, file)

    monkeypatch.setattr(storage, "_download", broken)
    with pytest.raises(ConfigError, match=r"cannot be copied to .*ConnectionError: reset by peer"):
        fetched(address)
    monkeypatch.setattr(storage, "_download", download)
    assert fetched(address) == 3


def test_two_that_want_the_same_copy_fetch_it_once(place: tuple[str, Put]) -> None:
    address, put = place
    put("a", b"x" * 1000)
    sizes: list[int] = []
    threads = [threading.Thread(target=lambda: sizes.append(fetched(address))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(sizes) == [0, 0, 0, 1000]


@pytest.mark.parametrize(
    ("path", "address"),
    [
        ("s3://bucket/x", True),
        ("memory://x", True),
        ("S3://bucket/x", True),
        ("s3:/bucket/x", False),
        ("/models/x", False),
        ("runs", False),
        ("a/b://c", False),
    ],
)
def test_addresses_are_told_from_paths(path: str, address: bool) -> None:
    assert is_address(path) == address


def test_a_run_gets_copies_where_it_names_addresses(place: tuple[str, Put], tmp_path: Path) -> None:
    address, put = place
    put("model/config.json", b"{}")
    put("data/a.jsonl", json.dumps({"prompt": "1+1=", "answer": "2"}).encode())
    config = config_of(
        {
            "model": {"path": f"{address}/model"},
            "data": {"path": {f"{address}/data/a.jsonl": 2.0, "/data/b.jsonl": 1.0}},
            "reward": {"name": "judge", "judge": {"path": f"{address}/model"}},
        }
    )
    said: list[str] = []
    local, copies = with_copies(config, said.append)
    assert local.data.path == {str(copy_of(f"{address}/data/a.jsonl")): 2.0, "/data/b.jsonl": 1.0}
    assert local.hosted_judges == {"judge": local.model.path}
    assert Path(local.model.path).is_dir()
    assert [copy.setting for copy in copies] == ["model.path", "data.path", "reward.judge.path"]
    assert said[0].startswith(f"{address}/model (model.path): 1 file, ")
    unset = {"model": {"path"}, "data": {"path"}, "reward": {"judge"}}
    assert local.model_dump(exclude=unset) == config.model_dump(exclude=unset)
    assert with_copies(grading_config([], data=f"{address}/data/a.jsonl"), said.append)[0].data.path in local.data.path


def test_a_missing_model_is_named_by_its_setting(tmp_path: Path) -> None:
    config = config_of({"model": {"path": f"file://{tmp_path}/no"}, "data": {"path": "a.jsonl"}})
    with pytest.raises(ConfigError, match=r"^model.path: there is nothing at file://"):
        with_copies(config, str)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the server's packages
def test_a_model_comes_from_s3_with_the_keys_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with s3_bucket(monkeypatch) as bucket:
        (tmp_path / "model.safetensors").write_bytes(b"w" * 100_000)
        system, path = file_system(f"s3://{bucket}/m")
        upload(system, tmp_path / "model.safetensors", f"{path}/model.safetensors")
        assert [fetched("s3://bucket/m"), fetched("s3://bucket/m")] == [100_000, 0]
        options = f"?scheme=http&endpoint_override={os.environ['AWS_ENDPOINT_URL'].partition('//')[2]}"
        assert fetched(f"s3://{bucket}/m/*.safetensors{options}") == 100_000
        with pytest.raises(ConfigError, match="there is nothing at s3://bucket/none"):
            fetched("s3://bucket/none")
