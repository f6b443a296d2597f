"""Each mistake has one message, at its place, and the mended text is legal."""

from __future__ import annotations

import pytest

from tensorprog.errors import ShapeError
from tensorprog.legality import assert_legal
from tests.elaborate.error_table import ROWS, Row, whole
from tests.elaborate.graphs import graph_of


@pytest.mark.parametrize("row", ROWS, ids=[row.message for row in ROWS])
def test_mistake_is_named_at_its_place(row: Row) -> None:
    with pytest.raises(ShapeError) as caught:
        graph_of(whole(row.bad), "net.tp")
    error = caught.value
    assert error.message == row.message
    assert f"{error.span.line}:{error.span.column}" == row.place
    assert error.render().startswith(f"net.tp:{row.place}: error: {row.message}\n")
    assert "^" in error.render()
    assert error.why and error.fix


@pytest.mark.parametrize("row", ROWS, ids=[row.message for row in ROWS])
def test_mended_text_is_legal(row: Row) -> None:
    assert_legal(graph_of(whole(row.mended)))
