"""Django database backend for MySQL and MariaDB that lets other greenlets run during a query."""
