"""Finished runs on disk: an SQLite file that survives being killed at any moment."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from types import TracebackType
from typing import Self

from tensorprog.errors import TensorProgError
from tensorprog.files import unreadable
from tensorprog.hptransfer.plan import Job
from tensorprog.hptransfer.train import Outcome

APPLICATION = 0x74706C63  # "tplc": how we know our own files
VERSION = 1
WHY, FIX = "finished runs are recorded in that file", "another file name after -o"

_TABLE = """
create table if not exists runs (
    key text primary key,  -- a hash of everything that determines the run
    parametrization text not null, sizes text not null, sweep text not null, value real not null,
    seed integer not null, steps integer not null, batch integer not null, data text not null,
    loss real,  -- null: diverged
    initial real not null
) without rowid
"""


class Store:
    """key -> outcome. Every `put` is a transaction of its own. `path` None: in memory."""

    def __init__(self, path: Path | str | None) -> None:
        self._path = path
        try:
            fresh = path is None or not Path(path).exists() or Path(path).stat().st_size == 0
            self._connection = sqlite3.connect(":memory:" if path is None else str(path), timeout=60)
            if fresh:
                self._connection.execute("begin immediate")  # all of it or nothing, whenever we are killed
                self._connection.execute(f"pragma application_id = {APPLICATION}")
                self._connection.execute(f"pragma user_version = {VERSION}")
                self._connection.execute(_TABLE)
                self._connection.commit()
            found = [self._connection.execute(f"pragma {p}").fetchone()[0] for p in ("application_id", "user_version")]
            if found != [APPLICATION, VERSION]:
                raise TensorProgError(f"{path} holds no results of this version", why=WHY, fix=FIX)
        except OSError as error:
            raise unreadable(path or "", error, "a file of results") from None
        except sqlite3.Error as error:
            raise TensorProgError(f"cannot use {path} for results: {error}", why=WHY, fix=FIX) from None

    def get(self, key: str) -> Outcome | None:
        """The recorded outcome. Raises TensorProgError if the file is damaged, or locked for a minute."""
        try:
            row = self._connection.execute("select loss, initial from runs where key = ?", (key,)).fetchone()
        except sqlite3.Error as error:
            raise TensorProgError(f"cannot read {self._path}: {error}", why=WHY, fix=FIX) from None
        return None if row is None else Outcome(*row)

    def put(self, key: str, parametrization: str, data: str, job: Job, outcome: Outcome) -> None:
        """Record a finished run. Raises TensorProgError if it cannot be written."""
        sizes = ", ".join(f"{symbol}={size}" for symbol, size in job.sizes)
        row = (key, parametrization, sizes, job.sweep, job.value, job.seed, job.steps, job.batch, data,
               outcome.loss, outcome.initial)  # fmt: skip
        try:
            with self._connection:
                self._connection.execute(f"insert or ignore into runs values ({', '.join('?' * len(row))})", row)
        except sqlite3.Error as error:
            raise TensorProgError(f"cannot write {self._path}: {error}", why=WHY, fix=FIX) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._connection.close()
