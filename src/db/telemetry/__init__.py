"""Telemetry: what is seen of the database from outside, in logs, metrics, spans and the server's own lists.

``connection_events`` writes a line for each step of a connection's life and counts it; ``statement_events`` does so for
statements: slow ones, repeated ones (``repeated_statements``), comments (``sql_comment``), ``spans`` and their
``span_exporters``. ``holders`` says who has a connection, and ``failures`` what went wrong in the user's code;
``fingerprint`` makes of a statement what may be shown of it; ``log`` has the logger and the lines that are of no one
connection; ``metrics`` counts, pool by pool, and prints what an invocation added as CloudWatch metrics;
``otel_metrics`` is OpenTelemetry's share of it; ``application_name``, what the server shows of us.

Nothing that it writes holds a value, a password or a token. It must not decide: no retry, no pool, no transaction
depends on it. A new log line goes into ``log``, or into ``connection_events`` where it is of one connection; a new
number, into ``metrics``; what another tracer is told, into ``span_exporters``.
"""
