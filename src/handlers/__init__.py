"""What Lambda calls: thin handlers, a folder for each feature. Parse, call ``db``, shape the answer."""
