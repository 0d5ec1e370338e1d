"""Invoices for many tenants: what comes in over HTTP and by queue, and each night what is overdue."""
