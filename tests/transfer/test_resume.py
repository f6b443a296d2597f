"""Finished runs are never trained again; what interrupts a sweep does not change its result."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

import tensorprog as tp
from tensorprog.hptransfer import pool
from tests.transfer.support import NETWORK, saved, small

pytestmark = pytest.mark.torch


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The jobs that are really trained."""
    from tensorprog.hptransfer import train

    seen: list[object] = []

    def counting(job, data):
        seen.append(job)
        return train.train(job, data)

    monkeypatch.setattr(pool, "train", counting)
    return seen


def rows(path: Path) -> list[tuple]:
    with sqlite3.connect(path) as connection:
        return connection.execute("select * from runs order by key").fetchall()


def test_a_second_sweep_trains_nothing_and_says_the_same(tmp_path: Path, trained: list[object]) -> None:
    first = small(tmp_path / "d.npz", store=tmp_path / "runs")
    count = len(trained)
    assert count == len(first.records) == len(rows(tmp_path / "runs")) > 20
    assert small(tmp_path / "d.npz", store=tmp_path / "runs").render("json") == first.render("json")
    assert len(trained) == count


def test_what_is_interrupted_goes_on_where_it_stopped(tmp_path: Path, trained: list[object]) -> None:
    whole = small(tmp_path / "d.npz")
    trained.clear()

    def interrupt(done: float, total: float) -> None:
        if len(trained) == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        small(tmp_path / "d.npz", store=tmp_path / "runs", progress=interrupt)
    assert len(rows(tmp_path / "runs")) == 7
    resumed = small(tmp_path / "d.npz", store=tmp_path / "runs")
    assert len(trained) == len(whole.records)
    assert resumed.render("json") == whole.render("json")


@pytest.mark.parametrize("other", [
    {"steps": 13}, {"batch": 17}, {"form": "table3"}, {"optimizer": "adamw"}, {"widths": (9, 17)},
])  # fmt: skip
def test_a_run_is_known_again_only_if_nothing_differs(tmp_path: Path, trained: list[object], other: dict) -> None:
    given = {"store": tmp_path / "runs", "values": (0.01,), "extend": False, "widths": (8, 16), "optimizer": "adam"}
    options = {"seeds": 1, "steps": 12, "batch": 16, "data": saved(tmp_path / "d.npz"), "parametrizations": ["derived"]}
    tp.transfer(tp.parse(NETWORK), **given | options)
    assert len(trained) == 2
    tp.transfer(tp.parse(NETWORK), **given | options | other)
    assert len(trained) == 4


def test_other_data_of_the_same_name_are_other_runs(tmp_path: Path, trained: list[object]) -> None:
    import numpy as np

    from tests.transfer.support import arrays

    options = {"store": tmp_path / "runs", "values": (0.01,), "extend": False, "parametrizations": ["derived"]}
    small(tmp_path / "d.npz", **options)
    count = len(trained)
    np.savez(tmp_path / "e.npz", **{**arrays(), "inputs": -arrays()["inputs"]})
    small(tmp_path / "d.npz", **options, data=str(tmp_path / "e.npz"))
    assert len(trained) == 2 * count


@pytest.mark.parametrize("content", [b"no database", b"SQLite format 3\0" + bytes(200)])
def test_a_file_that_holds_no_results_is_refused_and_kept(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "notes").write_bytes(content)
    with pytest.raises(tp.TensorProgError, match="results"):
        small(tmp_path / "d.npz", store=tmp_path / "notes")
    assert (tmp_path / "notes").read_bytes() == content


def test_a_database_of_another_program_is_refused_and_kept(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "other.sqlite") as connection:
        connection.execute("create table runs (key)")
    before = (tmp_path / "other.sqlite").read_bytes()
    with pytest.raises(tp.TensorProgError, match="holds no results"):
        small(tmp_path / "d.npz", store=tmp_path / "other.sqlite")
    assert (tmp_path / "other.sqlite").read_bytes() == before


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads /proc")
def test_killed_at_any_moment_it_loses_only_the_runs_in_progress(tmp_path: Path) -> None:
    """Two workers; kill -9 of the process that owns them, twice, after a few runs each. The workers end with it, the
    runs recorded before are kept as they are, and the result is that of an undisturbed sweep in one process."""
    network, results = tmp_path / "small.tp", tmp_path / "runs"
    network.write_text(NETWORK)
    arguments = [str(network), "--optimizer", "adam", "--widths", "8,16,32", "--seeds", "3", "--steps", "40",
                 "--batch", "16", "--data", saved(tmp_path / "d.npz"), "--format", "json"]  # fmt: skip
    command = [sys.executable, "-m", "tensorprog.cli", "transfer", *arguments]
    known: list[tuple] = []
    for _ in range(2):
        with subprocess.Popen([*command, "--jobs", "2", "-o", str(results)], stdout=subprocess.DEVNULL) as process:
            enough = len(known) + 4
            deadline = time.monotonic() + 120
            while not (results.exists() and len(_now(results)) >= enough):
                assert process.poll() is None, "it ended before it could be killed"
                assert time.monotonic() < deadline
                time.sleep(0.01)
            workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            process.send_signal(signal.SIGKILL)
        while any(_alive(int(pid)) for pid in workers):
            assert time.monotonic() < deadline, "a worker outlives the process that started it"
            time.sleep(0.05)
        after = rows(results)
        assert set(known) <= set(after)
        known = after
    outputs = [
        subprocess.run([*command, *extra], check=True, stdout=subprocess.PIPE, text=True).stdout
        for extra in (["--jobs", "2", "-o", str(results)], ["--jobs", "1"])
    ]
    assert outputs[0] == outputs[1]
    assert set(known) <= set(rows(results))
    assert len(rows(results)) == len(json.loads(outputs[0])["records"])


def _now(path: Path) -> list[tuple]:
    try:
        return rows(path)
    except sqlite3.OperationalError:  # the table is not there yet
        return []
