"""Results through a bucket: `s3://`, with a server on this machine."""

import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import arrays, run_tiny
from helpers import accuracies, four_cells

from unlearnable_bench import UserError, run
from unlearnable_bench.curation.exchange import Exchange, keys_of
from unlearnable_bench.executors import ray
from unlearnable_bench.results.store import ResultsFolder

pytest.importorskip("moto.server", exc_type=ImportError)
s3fs = pytest.importorskip("s3fs")

from bucket import SETTINGS, served  # noqa: E402 - needs moto

KEY, OTHER = "a" * 32, "b" * 32


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with served() as address:
        yield address


@pytest.fixture
def bucket(address: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Return the URL of a new bucket."""
    for name, value in (SETTINGS | {"AWS_ENDPOINT_URL": address}).items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()  # an instance keeps its address and credentials
    name = uuid.uuid4().hex
    s3fs.S3FileSystem().mkdir(name)
    yield f"s3://{name}"
    s3fs.S3FileSystem.clear_instance_cache()


def new(folder: Path) -> Path:
    ResultsFolder(folder, create=True)
    return folder


def checkpoint(folder: Path, key: str = KEY, content: bytes = b"steps") -> Path:
    path = new(folder) / "work" / f"{key}.safetensors"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path


def stored(url: str) -> list[str]:
    """Return the names under a URL, as another process sees them."""
    system = s3fs.S3FileSystem(skip_instance_cache=True)
    start = url.removeprefix("s3://") + "/"
    return sorted(name.removeprefix(start) for name in system.find(start))


def test_results_pass_through_a_bucket(bucket: str, tmp_path: Path) -> None:
    plan, url = four_cells(tmp_path), f"{bucket}/some/prefix"
    there, here, keys = tmp_path / "there", new(tmp_path / "here"), keys_of(plan.cells[-1])
    run(plan, there, device="cpu")
    Exchange(url, there, keys).send()
    Exchange(url, here, keys).collect()
    key = plan.cells[-1].key
    assert accuracies(here) == {key: accuracies(there)[key]}
    assert run(plan, here, device="cpu").reused == 1


@pytest.mark.parametrize("place", ["", "/prefix/"])
def test_files_of_another_process_are_seen(bucket: str, tmp_path: Path, place: str) -> None:
    url = bucket + place
    exchange = Exchange(url, new(tmp_path / "here"), [KEY, OTHER])
    exchange.check()
    checkpoint(tmp_path / "here")
    exchange.send()
    exchange.fetch()
    checkpoint(tmp_path / "there", OTHER)
    script = (
        "import sys; from pathlib import Path\n"
        "from unlearnable_bench.curation.exchange import Exchange\n"
        "Exchange(sys.argv[1], Path(sys.argv[2]), [sys.argv[3]]).send()"
    )
    subprocess.run([sys.executable, "-c", script, url, tmp_path / "there", OTHER], check=True)
    exchange.fetch()
    assert (tmp_path / "here" / "work" / f"{OTHER}.safetensors").read_bytes() == b"steps"
    names = ["ubench.json", f"work/{KEY}.safetensors", f"work/{OTHER}.safetensors"]
    assert stored(bucket + place.rstrip("/")) == names


def test_a_checkpoint_is_replaced_and_removed(bucket: str, tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "here")
    exchange = Exchange(f"{bucket}/prefix", tmp_path / "here", [KEY])
    exchange.send()
    path.write_bytes(b"more steps")
    exchange.send()
    Exchange(f"{bucket}/prefix", new(tmp_path / "there"), [KEY]).fetch()
    assert (tmp_path / "there" / "work" / path.name).read_bytes() == b"more steps"
    path.unlink()
    exchange.send()
    exchange.send()
    assert stored(f"{bucket}/prefix") == []


CALLS: dict[str, Callable[[Exchange], None]] = {
    "check": Exchange.check,
    "fetch": Exchange.fetch,
    "send": Exchange.send,
    "collect": Exchange.collect,
}


@pytest.mark.parametrize("call", CALLS)
def test_a_missing_bucket_is_named_and_not_made(bucket: str, tmp_path: Path, call: str) -> None:
    checkpoint(tmp_path / "here")
    exchange = Exchange(f"{bucket}0/prefix", tmp_path / "here", [KEY])
    with pytest.raises(UserError, match="bucket does not exist; check the bucket") as caught:
        CALLS[call](exchange)
    assert str(caught.value).startswith(f"ray.store={bucket}0/prefix: ")
    assert "\n" not in str(caught.value)
    assert not s3fs.S3FileSystem(skip_instance_cache=True).exists(f"{bucket}0")


@pytest.mark.skipif(not find_spec("ray"), reason="needs the extra [ray]")
def test_a_missing_bucket_ends_the_command_before_ray_is_connected(
    bucket: str, tmp_path: Path
) -> None:
    np.savez(tmp_path / "tiny.npz", **arrays())
    words = [word for word in run_tiny("--methods", "random") if word not in ("--device", "cpu")]
    done = subprocess.run(
        [sys.executable, "-m", "unlearnable_bench", *words, "--executor", "ray",
         "--ray-address", "127.0.0.1:1", "--set", "ray.gpus=0",
         "--set", f"ray.store={bucket}0/prefix"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"ubench: ray.store={bucket}0/prefix: ")


def test_a_bucket_that_is_removed_midway_is_named(bucket: str, tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "here")
    exchange = Exchange(bucket, tmp_path / "here", [KEY])
    exchange.send()
    s3fs.S3FileSystem().rm(bucket, recursive=True)
    path.write_bytes(b"more steps")
    with pytest.raises(UserError, match="bucket does not exist; check the bucket"):
        exchange.send()


@pytest.mark.parametrize("call", CALLS)
def test_refused_credentials_are_named(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    checkpoint(tmp_path / "here")
    exchange = Exchange(bucket, tmp_path / "here", [KEY])
    with monkeypatch.context() as patch:
        # From now on the server, which is in this process, asks for credentials and knows none.
        patch.setattr("moto.settings.INITIAL_NO_AUTH_ACTION_COUNT", 0)
        with pytest.raises(
            UserError, match=r"PermissionError.*endpoint and the credentials"
        ) as caught:
            CALLS[call](exchange)
    assert "\n" not in str(caught.value)
    assert stored(bucket) == []


def test_a_server_that_is_down_is_named_and_what_it_missed_is_sent_later(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = checkpoint(tmp_path / "here")
    exchange = Exchange(bucket, tmp_path / "here", [KEY])
    exchange.send()
    path.write_bytes(b"more steps")
    with monkeypatch.context() as patch, socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # without `listen`: connections are refused
        patch.setenv("AWS_MAX_ATTEMPTS", "1")
        place = f"http://127.0.0.1:{free.getsockname()[1]}"
        patch.setattr(exchange, "_system", s3fs.S3FileSystem(endpoint_url=place))
        for call in (exchange.check, exchange.fetch, exchange.send):
            with pytest.raises(UserError, match=r"Could not connect.*run the same command again"):
                call()
    exchange.send()
    Exchange(bucket, new(tmp_path / "there"), [KEY]).fetch()
    assert (tmp_path / "there" / "work" / path.name).read_bytes() == b"more steps"


def test_a_task_sends_its_results_once_the_server_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "_PAUSE", 0)
    tries = []

    class Failing:
        def send(self) -> None:
            tries.append("")
            if len(tries) < 3:
                raise UserError("down")

    failing: Any = Failing()
    ray._send(failing)
    assert len(tries) == 3
    monkeypatch.setattr(ray, "_PATIENCE", 0)
    tries.clear()
    with pytest.raises(UserError, match="down"):
        ray._send(failing)
