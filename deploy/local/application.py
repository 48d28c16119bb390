"""Floodgate's own processes: prepared (schemas, catalog, sample login), started, and waited for."""

from deploy.local.errors import StackError
from deploy.local.instance import Instance
from deploy.local.supervision import Supervisor


def start(instance: Instance, supervisor: Supervisor) -> None:
    raise StackError("not yet")
