"""The staff's site, for the tests of its pages in whichever app."""

import pytest
from django.test import Client

from tests.factories.staff import logged_in, make_superuser


@pytest.fixture
def staff_site(settings, tmp_path) -> None:
    """Serve the staff's addresses in the staff's way, as config.settings_staff does; nobody has collected its files."""
    settings.ROOT_URLCONF = settings.STAFF_URLCONF
    settings.MIDDLEWARE = settings.STAFF_MIDDLEWARE
    settings.STATIC_ROOT = tmp_path


@pytest.fixture
def staff(staff_site: None) -> Client:
    """A superuser at work."""
    return logged_in(make_superuser())
