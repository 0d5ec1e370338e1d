"""The laptop and CI side: embedded Postgres, AWS on localhost, the Lambda runtime, a counting proxy, a pytest plugin.

Never shipped, and imported by neither ``db`` nor ``handlers``.
"""

__version__ = "0.2.0"
