"""A Django database backend for MySQL and MariaDB that waits on gevent's hub and keeps a bounded pool.

Set `ENGINE = "infra.mysql"`; everything else is Django's. What differs, and why: docs/decisions/0002.
"""
