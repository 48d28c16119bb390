"""The one-machine stack: real servers and all of Floodgate's processes under one supervisor.

Everything here but ``gunicorn.py`` runs before the virtual environment exists, so it needs nothing beyond the
standard library.
"""
