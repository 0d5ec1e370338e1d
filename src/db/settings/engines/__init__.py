"""Engines: for each database engine one object that says what it can, how that is said to it, and what it cannot.

``kinds`` has the class of those objects and finds one by the name in a URL. ``postgresql``, ``sqlite``, ``mysql``,
``mariadb`` and ``dsql`` have one each; only the one that the settings name is loaded. A room that depends on the
engine asks the object and compares no name. What an engine cannot do is refused where it is asked for: by
``EngineKind.require`` in a call, and for settings by what ``unserved`` and ``at_most`` say.

It holds words and values, and must not know the settings around it, connections or SQLAlchemy: what goes over a socket,
or into a file, is in ``wire``, in the module that the object names as its ``dialect``. Another engine is a module here
and its dialect there.
"""
