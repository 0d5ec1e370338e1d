"""Where a server is: what is wrong with the name of one, or with its port, before the network is asked."""

from __future__ import annotations

_LAST_PORT = 65_535


def host_problem(host: str) -> str | None:
    """What is wrong with the name of a server, or with one in a list of them; None where nothing is."""
    for name in host.split(","):
        if any(character.isspace() for character in name):
            return f"has blanks in it: {host!r}"
        if "://" in name:
            return f"is a URL, and not the name of a server: {host!r}"
        # A socket's folder, an abstract socket, or an address of IPv6.
        if not name.startswith(("/", "@")) and name.count(":") == 1:
            return f"holds a port, which goes into DB_PORT: {host!r}"
        if not name.startswith(("/", "@")) and "/" in name:
            return f"is no name of a server: {host!r}"
    return None


def port_problem(port: object) -> str | None:
    """What is wrong with a port, or with one in a list of them; None where nothing is."""
    for number in str(port).split(","):
        if number and not (number.isdecimal() and 0 < int(number) <= _LAST_PORT):
            return f"is no port from 1 to {_LAST_PORT}"
    return None
