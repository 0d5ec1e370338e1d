"""Many execution environments at once under what Lambda, the network, the secrets and the database do to them.

``python -m devkit fleet`` runs the scenarios and says what each came to; docs/survival.md has the figures.
"""
