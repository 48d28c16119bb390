"""Which addresses are public."""

import runpy
from ipaddress import ip_address
from pathlib import Path

import pytest
from django.conf import settings as project
from django.core.exceptions import ImproperlyConfigured

from config import env
from infra.outgoing.addresses import is_allowed

NOT_PUBLIC = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254",
    "169.254.169.254", "168.63.129.16",
    "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.0.1",
    "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:100.64.0.1",
    "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "100::1", "2001::1", "2001:0:4136:e378::1", "2001:10::1",
    "2001:db8::1", "2002:7f00:1::", "2002:a9fe:a9fe::1", "2002:808:808::1", "3fff::1", "4000::1", "5f00::1", "fc00::1",
    "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "ff0e::1", "2a00::1%eth0",
]  # fmt: skip
PUBLIC = ["1.1.1.1", "8.8.8.8", "93.184.216.34", "172.32.0.1", "192.0.1.1", "2606:4700:4700::1111", "2a00:1450::1",
          "::ffff:8.8.8.8", "100.128.0.1", "11.0.0.1"]  # fmt: skip


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_what_is_not_public_is_refused(address):
    assert not is_allowed(ip_address(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_what_is_public_is_allowed(address):
    assert is_allowed(ip_address(address))


def test_an_operator_denies_networks_of_their_own_and_a_test_allows_loopback(settings):
    settings.OUTGOING_DENIED_NETWORKS = ["8.8.8.0/24", "2606:4700::/32"]
    settings.OUTGOING_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    assert not is_allowed(ip_address("8.8.8.8"))
    assert not is_allowed(ip_address("::ffff:8.8.8.8"))
    assert not is_allowed(ip_address("2606:4700:4700::1111"))
    assert is_allowed(ip_address("127.0.0.1"))
    assert not is_allowed(ip_address("10.0.0.1"))


def test_production_refuses_to_open_the_inner_network(monkeypatch):
    module = Path(project.BASE_DIR) / "config" / "settings" / "outgoing.py"
    monkeypatch.setenv("FLOODGATE_OUTGOING_ALLOWED_NETWORKS", "127.0.0.0/8")
    assert runpy.run_path(str(module))["OUTGOING_ALLOWED_NETWORKS"] == ["127.0.0.0/8"]
    monkeypatch.setattr(env, "IS_PRODUCTION", True)
    with pytest.raises(ImproperlyConfigured, match="production refuses it"):
        runpy.run_path(str(module))
