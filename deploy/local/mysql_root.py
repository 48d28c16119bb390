"""A real Oracle MySQL without containers: Debian's unstable suite in a root folder of its own."""


def mysqld_command() -> list[str]:
    raise NotImplementedError


def options() -> dict[str, str | None]:
    raise NotImplementedError
