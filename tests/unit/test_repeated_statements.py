"""Which statements an invocation repeats."""

from __future__ import annotations

from db.telemetry.repeated_statements import MOST_TEXTS, Repeats


def ran(*statements: str, budget: int = 2) -> list[tuple[str, int]]:
    repeats = Repeats()
    for statement in statements:
        repeats.add(statement, 1.5, budget=budget)
    return [(found.text, runs.count) for found, runs in repeats.beyond(budget)]


def test_a_statement_may_run_as_often_as_the_budget_says() -> None:
    """And not once more."""
    assert ran("SELECT 1", "SELECT 1") == []
    assert ran("SELECT 1", "SELECT 1", "SELECT 1") == [("SELECT ?", 3)]


def test_statements_that_differ_in_their_values_are_one() -> None:
    """Values in the text are no way around it, nor are lists of different lengths."""
    assert ran("SELECT 1", "SELECT 2", "SELECT 3", "SELECT a") == [("SELECT ?", 3)]
    in_lists = [f"SELECT a FROM t WHERE b IN ({', '.join(['%s'] * n)})" for n in (1, 2, 3)]
    assert ran(*in_lists) == [("SELECT a FROM t WHERE b IN (...)", 3)]


def test_savepoints_are_no_statements_of_their_own() -> None:
    """A batch sets one for each record because it has to."""
    assert ran(*(f"SAVEPOINT sa_savepoint_{n}" for n in range(9))) == []


def test_what_took_longest_comes_first() -> None:
    """With its total."""
    repeats = Repeats()
    for statement, duration_ms in (("SELECT a", 1.0), ("SELECT b", 2.0)) * 3:
        repeats.add(statement, duration_ms, budget=2)
    assert [(found.text, runs.duration_ms) for found, runs in repeats.beyond(2)] == [
        ("SELECT b", 6.0),
        ("SELECT a", 3.0),
    ]


def test_texts_without_end_take_no_memory_without_end() -> None:
    """What is beyond the bound is not counted."""
    assert ran(*(f"SELECT {n}" for n in range(MOST_TEXTS + 100))) == [("SELECT ?", MOST_TEXTS)]
