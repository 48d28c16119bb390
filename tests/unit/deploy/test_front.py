"""Who listens where: nginx on the public port where there is one, gunicorn itself where there is none."""

import itertools

import pytest

from deploy.local.instance import Instance, load_instance
from deploy.local.nginx import Front
from deploy.local.supervision import Program, programs_of


def _programs(monkeypatch: pytest.MonkeyPatch, nginx: str | None) -> dict[str, Program]:
    monkeypatch.setattr(Instance, "nginx", property(lambda self: nginx))
    instance = load_instance("test-front", port_base=26000)
    return {program.name: program for program in programs_of(instance) if not program.is_server}


def _addresses(program: Program) -> set[str]:
    words = program.command
    return {address for option, address in itertools.pairwise(words) if option == "--bind"}


@pytest.fixture(autouse=True)
def _no_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written and no database looked for."""
    monkeypatch.setattr("deploy.local.servers.command_of", lambda *_: ["server"])
    monkeypatch.setattr(Instance, "secrets", lambda self: {"FLOODGATE_DB_PASSWORD": "x"})


def test_with_nginx_gunicorn_listens_on_its_own_port_only(monkeypatch: pytest.MonkeyPatch) -> None:
    programs = _programs(monkeypatch, "/usr/sbin/nginx")
    assert programs["nginx"].ports == ("public",)
    assert programs["gunicorn"].ports == ("internal",)
    assert _addresses(programs["gunicorn"]) == {"127.0.0.1:26001"}
    assert _addresses(programs["admin"]) == {"127.0.0.1:26002"}


def test_without_nginx_gunicorn_answers_on_both(monkeypatch: pytest.MonkeyPatch) -> None:
    programs = _programs(monkeypatch, None)
    assert "nginx" not in programs
    assert programs["gunicorn"].ports == ("public", "internal")
    assert _addresses(programs["gunicorn"]) == {"127.0.0.1:26000", "127.0.0.1:26001"}


def test_a_configuration_has_nothing_left_to_fill_in(tmp_path) -> None:
    front = Front(folder=tmp_path, listen="127.0.0.1:1", upstream="127.0.0.1:2")
    front.write_configuration()
    text = front.configuration_path.read_text()
    assert "@problem" not in text
    assert "127.0.0.0/8 1;" in text
    assert front.configuration_path.stat().st_mode & 0o777 == 0o600
