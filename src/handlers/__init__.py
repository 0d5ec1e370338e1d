"""What Lambda calls: thin handlers, a folder for each feature. Parse, call ``db``, shape the answer."""

# What a 503 tells a caller, in seconds: short enough for a person to wait, long enough for a new connection.
RETRY_AFTER_S = 2
