"""Which encodings a connect may be told to speak: UTF-8."""

from typing import Any

import pytest
from sqlalchemy import make_url

from db.environment.runtime import Runtime
from db.errors import ConfigurationError
from db.settings import Settings
from db.wire.encoding import other_encoding


@pytest.mark.parametrize(
    ("params", "other"),
    [
        ({"client_encoding": "latin1"}, "latin1"),
        ({"client_encoding": "auto"}, "auto"),
        ({"client_encoding": ("utf8", "SQL_ASCII")}, "SQL_ASCII"),
        ({"options": "-c a=b --client-encoding=latin1"}, "latin1"),
        ({"options": ("-c a=b", "-cclient_encoding=win1252")}, "win1252"),
    ],
)
def test_another_is_found_wherever_it_stands(params: dict[str, Any], other: str) -> None:
    """libpq's options reach the server too, and a URL may say a thing several times."""
    assert other_encoding(params) == other


@pytest.mark.parametrize("name", ["utf8", "UTF-8", "Unicode"])
def test_utf8_may_be_asked_for_by_any_of_its_names(name: str) -> None:
    """Many a page advises to say so."""
    assert other_encoding({"client_encoding": name, "options": f"-c client_encoding={name} -c a=b"}) is None


def test_all_that_the_settings_say_of_another_is_refused_at_once() -> None:
    """Before a secret is fetched, or a connection opened."""
    url = make_url("postgresql://u@h/d?client_encoding=latin1")
    runtime = Runtime(Settings(url=url, connect_args={"client_encoding": "latin2"}))
    with pytest.raises(ConfigurationError) as caught:
        runtime.engine()
    assert caught.value.problems == (
        "DB_URL asks for client_encoding=latin1: it is UTF8",
        "DB_CONNECT_ARGS asks for client_encoding=latin2: it is UTF8",
    )
