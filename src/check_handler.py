"""Fails where a function's handler is not in its artifact: ``python check_handler.py <folder> <handler> <function>``.

Lambda would say so at the first invocation; `sam build` runs this, so that the build says it. Nothing is imported: a
handler may take packages that only the layer has.
"""

from __future__ import annotations

import symtable
import sys
from pathlib import Path


def problem(folder: Path, handler: str, function: str) -> str | None:
    """What Lambda would not find in ``folder`` of ``handler``, such as ``handlers.orders.api.handler``.

    ``function`` is the logical id of the function that has it.
    """
    module, dot, name = handler.rpartition(".")
    if not dot:
        return f"the handler {handler!r} is no module.function"
    path = module.replace(".", "/")
    candidates = (f"{path}/__init__.py", f"{path}.py")  # in the order in which Python looks
    found = next((file for file in candidates if (folder / file).is_file()), None)
    if found is None:
        return (
            f"the handler {handler} is not in the artifact: there is no {path}.py. "
            f"Where a layer brings it: Metadata: {{HandlerInLayer: true}}, on {function}"
        )
    if not _binds(folder / found, name):
        return f"the handler {handler} is not in the artifact: {found} defines no {name}"
    return None


def _binds(module: Path, name: str) -> bool:
    """Whether the module gives a value to ``name``; ``import *`` may, and gets the benefit of the doubt."""
    source = module.read_text()
    try:
        symbol = symtable.symtable(source, str(module), "exec").lookup(name)
    except KeyError:
        return "import *" in source
    return symbol.is_assigned() or symbol.is_imported()


if __name__ == "__main__":
    sys.exit(problem(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
