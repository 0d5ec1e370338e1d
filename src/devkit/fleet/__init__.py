"""Many execution environments at once under what Lambda, the network, the secrets and the database do to them.

``python -m devkit fleet`` runs the scenarios and says what each came to; what was found is at
https://serverless-data-access.github.io/serverless-data-access/run/survival/
"""
