"""Lambda on this machine: an execution environment in which a function is started, invoked, frozen and ended.

``environment`` is the usual kind: Lambda's own runtime client below AWS's Runtime Interface Emulator, which
``emulator`` runs as a process. ``managed_and_snapstart`` has the kinds that the emulator does not make, on a Runtime
API of ours (``runtime_api``). ``context`` is the context object for a handler that is called as a function. For what
runs in containers, ``docker`` finds or starts an engine, ``image`` sees to the runtime's image, and ``docker_bridge``
lets a container reach what listens on loopback. ``debian_python`` fetches a Python of another version.

It must not know templates, events or databases: code, handler, variables and time limit are handed to it. A difference
from the real Lambda is mended here; what an application's template says of a function is read in ``app``.
"""
