"""An order service for many tenants: the example to copy."""
