"""``plan``: whether the connections that a template's functions can hold fit into what its database takes.

``limits`` is the one table of formulas and reserves, each with its source and date. ``stack`` reads a SAM or
CloudFormation template, after its transform, with the values that are known; what is not known is asked for by name.
On it, ``evidence`` decides which functions use a database, and says why; ``sources`` whether their code uses
``db.aio``; ``functions`` how many environments each can have and what one of them holds; and ``databases`` what there
is to hold.

``planned`` puts a plan together of these. ``sums`` adds up and compares, of numbers alone, and ``changes`` looks for
the smallest change that fits. ``prose`` says it in sentences, ``plot`` draws it; ``options`` is what can be said on the
command line, and ``command`` does one after the other.

It must not know a particular application, opens no connection, and asks no account. A limit of AWS's is a row in
``limits`` and nowhere else; what a setting of ``db`` is by default, ``db.settings`` says.
"""
