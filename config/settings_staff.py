"""Settings of the staff's site: the same system with other addresses and with sessions."""

from config.settings import *
from config.settings import STAFF_MIDDLEWARE, STAFF_URLCONF

ROOT_URLCONF = STAFF_URLCONF
MIDDLEWARE = STAFF_MIDDLEWARE
SILENCED_SYSTEM_CHECKS = []
