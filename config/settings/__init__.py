"""Settings, one module a topic; each says what its values mean and why they are what they are."""

from config.settings.base import *
from config.settings.databases import *
from config.settings.api import *
from config.settings.observability import *
from config.settings.events import *
from config.settings.celery import *
from config.settings.users import *
from config.settings.commerce import *
from config.settings.payments import *
from config.settings.outgoing import *
from config.settings.notifications import *
from config.settings.shipping import *
from config.settings.staff import *
