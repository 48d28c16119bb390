"""Each database server keeps its temporary files to itself."""

from pathlib import Path

import pytest
from django.conf import settings
from django.db import connections


@pytest.mark.django_db(databases="__all__")
def test_servers_share_no_folder_for_temporary_tables():
    """A server that starts deletes the temporary tables that it finds: a restarted shard must not find another's."""
    folders = {}
    for alias in connections:
        with connections[alias].cursor() as cursor:
            cursor.execute("SELECT @@port, @@tmpdir")
            port, folder = cursor.fetchone()
        folders.setdefault(port, Path(folder))

    assert len(folders) == 3
    assert len(set(folders.values())) == 3
    assert all(settings.VAR_DIR in folder.parents for folder in folders.values())
