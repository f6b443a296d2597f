"""Finished runs are never trained again; what interrupts a sweep does not change its result."""

from __future__ import annotations

import contextlib
import io
import json
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

import tensorprog as tp
from tensorprog.cli import main
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


@pytest.mark.slow
def test_a_second_sweep_trains_nothing_and_says_the_same(tmp_path: Path, trained: list[object]) -> None:
    first = small(tmp_path / "d.npz", store=tmp_path / "runs")
    count = len(trained)
    assert count == len(first.records) == len(rows(tmp_path / "runs")) > 20
    assert small(tmp_path / "d.npz", store=tmp_path / "runs").render("json") == first.render("json")
    assert len(trained) == count


@pytest.mark.slow
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
    {"steps": 13},
    *(pytest.param(other, marks=pytest.mark.slow)
      for other in ({"batch": 17}, {"form": "table3"}, {"optimizer": "adamw"}, {"widths": (9, 17)})),
])  # fmt: skip
def test_a_run_is_known_again_only_if_nothing_differs(tmp_path: Path, trained: list[object], other: dict) -> None:
    given = {"store": tmp_path / "runs", "values": (0.01,), "extend": False, "widths": (8, 16), "optimizer": "adam"}
    options = {"seeds": 1, "steps": 12, "batch": 16, "data": saved(tmp_path / "d.npz"), "parametrizations": ["derived"]}
    tp.transfer(tp.parse(NETWORK), **given | options)
    assert len(trained) == 2
    tp.transfer(tp.parse(NETWORK), **given | options | other)
    assert len(trained) == 4


@pytest.mark.slow
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


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    """Its head is that of a file of results; the pages behind it are not."""
    options = {"values": (0.01,), "extend": False, "seeds": 1, "parametrizations": ["derived"]}
    small(tmp_path / "d.npz", store=tmp_path / "runs", **options)
    whole = (tmp_path / "runs").read_bytes()
    (tmp_path / "runs").write_bytes(whole[:4096] + bytes(len(whole) - 4096))
    with pytest.raises(tp.TensorProgError, match=r"cannot read .*runs: "):
        small(tmp_path / "d.npz", store=tmp_path / "runs", **options)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads /proc")
def test_killed_at_any_moment_it_loses_only_the_runs_in_progress(tmp_path: Path) -> None:
    """kill -9 of a sweep with two workers, after a few runs. The workers end with it, the runs recorded before are kept
    as they are, and what it says when it goes on is what an undisturbed sweep in one process says."""
    network, results = tmp_path / "small.tp", tmp_path / "runs"
    network.write_text(NETWORK)
    arguments = ["transfer", str(network), "--optimizer", "adam", "--widths", "8,16", "--seeds", "2", "--steps", "40",
                 "--batch", "16", "--data", saved(tmp_path / "d.npz"), "--format", "json"]  # fmt: skip
    command = [sys.executable, "-m", "tensorprog.cli", *arguments, "--jobs", "2", "-o", str(results)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 300
        while not (results.exists() and len(_now(results)) >= 4):
            assert process.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.send_signal(signal.SIGKILL)
    while any(_alive(int(pid)) for pid in workers):
        assert time.monotonic() < deadline, "a worker outlives the process that started it"
        time.sleep(0.05)
    known = set(rows(results))
    resumed = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    with contextlib.redirect_stdout(io.StringIO()) as undisturbed:
        assert main([*arguments, "--jobs", "1"]) == resumed.returncode
    assert resumed.stdout == undisturbed.getvalue()
    assert known < set(rows(results))
    assert len(rows(results)) == len(json.loads(resumed.stdout)["records"])


def _now(path: Path) -> list[tuple]:
    try:
        return rows(path)
    except sqlite3.OperationalError:  # the table is not there yet
        return []


def test_a_place_that_cannot_be_written_is_refused_before_the_data_are_read(tmp_path: Path) -> None:
    with pytest.raises(tp.TensorProgError, match="Is a directory"):
        small(tmp_path / "absent.npz", store=tmp_path)
